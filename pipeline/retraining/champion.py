"""The champion as the model that the next training run can begin with."""

import tempfile
from pathlib import Path

from pipeline.model.folder import CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE
from pipeline.params import Params
from pipeline.provenance.dvc import restore
from pipeline.review.listing import find
from pipeline.runtime.errors import InputError
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import CHAMPION, Store


def champion_files(store: Store, params: Params) -> tuple[str, dict[str, str]]:
    """The champion's version, and the hash of each of its files, which then lie in DVC's cache.

    Raises:
        InputError: there is no champion, its files are gone, or it may have learned what is tested today.
    """
    version = store.aliases().get(CHAMPION)
    if version is None:
        raise InputError("there is no champion yet")
    run = find(store, f"v{version}")
    provenance = read_provenance(store, run.info.run_id)
    stages = provenance.stages if provenance else {}
    if "train" not in stages or "tokenize" not in stages:
        raise InputError(f"MLflow does not say what champion v{version} was made from")
    # Documents stay in their split only as long as the shares are the same.
    if stages["tokenize"].params["tokenize"]["splits"] != params.tokenize.model_dump()["splits"]:
        raise InputError(f"tokenize.splits was different for champion v{version}: it may have learned test sentences")
    folder = f"data/models/{run.data.tags['cell']}"
    outs = stages["train"].outs
    digests = {
        CONFIG_FILE: outs.get(f"{folder}/{CONFIG_FILE}"),
        WEIGHTS_FILE: outs.get(f"{folder}/{WEIGHTS_FILE}"),
        # Champions of commit 726b98c have no copy of their vocabulary.
        VOCABULARY_FILE: outs.get(f"{folder}/{VOCABULARY_FILE}") or stages["train"].deps.get("data/vocabulary.tsv"),
    }
    found = {name: digest for name, digest in digests.items() if digest}
    if found != digests:
        raise InputError(f"MLflow does not say which files champion v{version} has")
    with tempfile.TemporaryDirectory() as folder:
        for name, digest in found.items():
            restore(f"{name} of champion v{version}", digest, Path(folder) / name)
    return version, found
