"""Whether data/ holds the text that params.yaml describes, encoded: a sweep must train on what stages train on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.params import at
from pipeline.provenance.dvc import TEXT_STAGES, digest_if_there, read_lock
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import ENCODED, LOCK, VOCABULARY, WARM_START

TRAINED_ON = (VOCABULARY, ENCODED / "train", ENCODED / "valid")  # the test split is none of a sweep's business


def require_prepared(params: Mapping[str, Any]) -> None:
    """Raise InputError where the text stages never ran, or are out of date; `params` is params.yaml as it is.

    Looks at parameters, the text and what was made of it; only DVC itself also looks at code.
    """
    if reason := _not_prepared(params):
        raise InputError(f"{reason}; run `dvc repro encode warm_start` first")


def trained_cells(params: Mapping[str, Any]) -> list[str]:
    """The names in `cells` whose models were trained as params.yaml says, and on what lies in data/."""
    lock = read_lock()
    return [name for name in params["cells"] if (record := lock.get(f"train@{name}")) and record.stands(params)]


def _not_prepared(params: Mapping[str, Any]) -> str | None:
    lock = read_lock() if LOCK.exists() else {}
    if missing := [stage for stage in TEXT_STAGES if stage not in lock]:
        return f"the corpus is not prepared yet: the stage {missing[0]} never ran"
    made: dict[str, str | None] = {}
    for stage in TEXT_STAGES:
        record = lock[stage]
        if changed := [key for key, value in record.params.items() if at(params, key) != value]:
            return f"params.yaml has another {changed[0]} than the corpus in {ENCODED.parent} was prepared with"
        if changed := [path for path, digest in record.deps.items() if made.get(path, digest) != digest]:
            return f"{changed[0]} is another than the stage {stage} has read"
        made |= record.outs
    text = at(params, "download.path")
    if at(params, "download.source") == "files" and _is_other(text, lock["download"].deps):
        return f"{text} is not the text that was prepared"
    if changed := [path for path in TRAINED_ON if _is_other(path.as_posix(), made)]:
        return f"{changed[0]} is not what {LOCK} describes"
    return None if WARM_START.is_dir() else f"{WARM_START} is missing"


def _is_other(path: str, known: Mapping[str, str | None]) -> bool:
    """Whether a file or folder is not the one whose hash is known; of a URL nobody asks."""
    return "://" not in path and known.get(path) != digest_if_there(Path(path))
