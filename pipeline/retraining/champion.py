"""The champion as the model that the next training run can begin with."""

import tempfile
from pathlib import Path

from pipeline.params import Params
from pipeline.provenance.dvc import restore
from pipeline.review.names import find
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODEL_FILES, MODELS, VOCABULARY, VOCABULARY_FILE
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
    folder, train = MODELS / run.data.tags["cell"], stages["train"]
    digests = {name: train.outs.get((folder / name).as_posix()) for name in sorted(MODEL_FILES)}
    # Champions of commit 726b98c have no copy of their vocabulary.
    digests[VOCABULARY_FILE] = digests[VOCABULARY_FILE] or train.deps.get(VOCABULARY.as_posix())
    found = {name: digest for name, digest in digests.items() if digest}
    if found != digests:
        raise InputError(f"MLflow does not say which files champion v{version} has")
    with tempfile.TemporaryDirectory() as folder:
        for name, digest in found.items():
            restore(f"{name} of champion v{version}", digest, Path(folder) / name)
    return version, found
