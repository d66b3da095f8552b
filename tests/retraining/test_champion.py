"""Which weights trainings can begin with."""

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.params import load_params
from pipeline.provenance.dvc import StageRecord
from pipeline.retraining import champion as module
from pipeline.runtime.errors import InputError
from pipeline.tracking.record import Provenance
from pipeline.tracking.store import Store
from tests.conftest import PROJECT
from tests.retraining.conftest import FILES, Repository

STAGES = {
    "tokenize": StageRecord({}, {}, {"tokenize": {"splits": {"train": 92, "valid": 4, "test": 4}}}),
    "train": StageRecord(
        {"data/vocabulary.tsv": "3" * 32},
        {"data/models/lstm/config.json": "1" * 32, "data/models/lstm/model.safetensors": "2" * 32},
        {},
    ),
}
# What a champion of commit 726b98c has recorded is above; since then the vocabulary is an output.
WHOLE = StageRecord({}, {**STAGES["train"].outs, "data/models/lstm/vocabulary.tsv": "3" * 32}, {})


@pytest.mark.parametrize(
    ("champion", "stages", "reason"),
    [
        (None, STAGES, "there is no champion yet"),
        ("3", None, "MLflow does not say what champion v3 was made from"),
        ("3", {"train": STAGES["train"]}, "MLflow does not say what champion v3 was made from"),
        (
            "3",
            STAGES | {"tokenize": StageRecord({}, {}, {"tokenize": {"splits": {"train": 8, "valid": 1, "test": 1}}})},
            r"tokenize\.splits was different for champion v3: it may have learned test sentences",
        ),
        (
            "3",
            STAGES | {"train": dataclasses.replace(STAGES["train"], deps={})},
            "MLflow does not say which files champion v3 has",
        ),
        ("3", STAGES, r"config\.json of champion v3 \(1{32}\) is not in DVC's cache, and cannot be pulled"),
        ("4", STAGES, None),
        ("5", STAGES | {"train": WHOLE}, None),
    ],
)
def test_the_champions_files_or_why_not(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    champion: str | None,
    stages: dict[str, StageRecord] | None,
    reason: str | None,
) -> None:
    run = SimpleNamespace(info=SimpleNamespace(run_id="id"), data=SimpleNamespace(tags={"cell": "lstm"}))
    monkeypatch.setattr(module, "find", lambda *_: run)
    monkeypatch.setattr(module, "read_provenance", lambda *_: stages and Provenance("c", {}, stages))
    params = load_params(PROJECT / "params.yaml")
    store = cast(Store, SimpleNamespace(aliases=lambda: {"champion": champion} if champion else {}))
    if reason:
        (repository.folder / ".dvc").mkdir()
        (repository.folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        with pytest.raises(InputError, match=f"^{reason}"):
            module.champion_files(store, params)
        return
    restored = []
    monkeypatch.setattr(module, "restore", lambda _, digest, path: restored.append((path.name, digest)))
    assert module.champion_files(store, params) == (champion, FILES)
    assert dict(restored) == FILES
