"""What differs between two runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.provenance.dvc import dvc_digest
from pipeline.review.differences import differences
from pipeline.review.names import find
from pipeline.runtime.errors import InputError
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.store import COMMIT, Store, connect
from tests.projects import HISTORY, Project
from tests.review.candidates import record

if TYPE_CHECKING:
    from mlflow.entities import Run


def run_of(store: Store, params: dict[str, str], metrics: dict[str, float], tags: dict[str, str]) -> str:
    """A run with these, and no more; returns its id."""
    run_id = store.client.create_run(store.experiment_id, tags=tags, run_name="lstm").info.run_id
    for key, value in params.items():
        store.client.log_param(run_id, key, value)
    for key, value in metrics.items():
        store.client.log_metric(run_id, key, value)
    return run_id


@pytest.fixture
def pair(project: Project) -> "tuple[Store, Run, Run]":
    """Two runs without a record of their files."""
    store = connect()
    metrics: dict[str, float] = {"test/perplexity": 5, "train/loss": 2, "valid/loss": 2, "system/cpu": 1}
    a = run_of(store, {"train.seed": "1", "model.layers": "1"}, metrics, {COMMIT: "c1", "git_dirty": "false"})
    metrics |= {"test/perplexity": float("nan"), "test/accuracy_top1": 0.5}
    dirty = {COMMIT: "c1", "git_dirty": "true", "git_changed_files": "a.py"}
    b = run_of(store, {"train.seed": "2", "model.layers": "1"}, metrics, dirty)
    return store, store.run(a), store.run(b)


def test_each_difference_is_under_its_kind(pair: "tuple[Store, Run, Run]") -> None:
    store, a, b = pair
    changes: dict[str, Any] = {"code": "9", "pins": "9", "data": "8", "model": "9", "seed": 7}
    changes["path"] = "https://me:secret@example.org/text.csv?token=secret"
    record(store, a.info.run_id)
    record(store, b.info.run_id, tokenize={"language": "german"}, **changes)
    found = differences(store, a, b)
    assert found.code == {
        "changed since": ("none", "a.py"),
        "pipeline/text/tokenizer.py": ("1", "9"),
        "data/pins/train.txt": ("6", "9"),
    }
    assert found.data == {"data/vocabulary.tsv": ("5", "8")}
    assert found.parameters == {
        "train.seed": ("1", "2"),
        "tokenize.language": ("english", "german"),
        "download.path": ("corpus", "https://example.org/text.csv"),
    }
    # Equal ones too, but no curves; and no number that JSON cannot hold.
    assert found.metrics == {"test/perplexity": (5.0, None), "test/accuracy_top1": (None, 0.5)}
    assert found.remarks == ()


def test_modules_that_do_something_else_are_named_and_not_the_file_that_says_so(
    pair: "tuple[Store, Run, Run]",
) -> None:
    store, a, b = pair
    record(store, a.info.run_id, did={"torch": "2.0", "stages/train.py": "1", "pipeline/model/cells.py": "1"})
    record(store, b.info.run_id, did={"torch": "2.1", "stages/train.py": "1", "pipeline/model/cells.py": "2"}, pins="9")
    assert differences(store, a, b).code == {
        "changed since": ("none", "a.py"),
        "torch": ("2.0", "2.1"),
        "pipeline/model/cells.py": ("1", "2"),
    }


def test_bytes_of_code_are_not_compared_with_what_code_does(pair: "tuple[Store, Run, Run]") -> None:
    store, a, b = pair
    record(store, a.info.run_id, code="old")
    record(store, b.info.run_id, did={"pipeline/text/tokenizer.py": "1"}, data="9")
    found = differences(store, a, b)
    assert set(found.code) == {"changed since"}
    assert found.data == {"data/vocabulary.tsv": ("5", "9")}
    assert found.remarks == (
        "One run recorded the bytes of its code, the other what it does, so modules are not compared.",
    )


def test_equal_runs_do_not_differ(pair: "tuple[Store, Run, Run]") -> None:
    store, a, _ = pair
    record(store, a.info.run_id)
    found = differences(store, a, a)
    assert (found.code, found.data, found.parameters) == ({}, {}, {})
    assert found.metrics == {"test/perplexity": (5.0, 5.0)}


def test_what_only_one_run_has_recorded_is_not_a_difference(pair: "tuple[Store, Run, Run]") -> None:
    store, a, b = pair
    record(store, a.info.run_id)
    found = differences(store, a, b)
    assert set(found.code) == {"changed since"}
    assert found.data == {}
    assert set(found.parameters) == {"train.seed"}
    (remark,) = found.remarks
    assert remark.startswith("lstm: no record of its files")


def test_a_damaged_record_is_refused(pair: "tuple[Store, Run, Run]") -> None:
    store, a, b = pair
    store.client.log_text(b.info.run_id, "{}", "provenance/provenance.json")
    with pytest.raises(InputError, match=f"{b.info.run_id}.* is damaged"):
        differences(store, a, b)


def test_other_data_shows_by_its_hash(project: Project) -> None:
    first = train(project)
    before = dvc_digest(Path("data/encoded/train"))
    ids = np.load("data/encoded/train/ids.npy")
    np.save("data/encoded/train/ids.npy", np.where(ids == 3, 4, ids).astype(np.uint16))
    project.train(seed=2)
    second = train(project)
    store = connect()
    found = differences(store, find(store, first), find(store, second))
    assert found.data == {"data/encoded/train": (before, dvc_digest(Path("data/encoded/train")))}
    assert found.remarks == ()


def train(project: Project) -> str:
    """A training run that MLflow has seen; returns its id."""
    listener = TrainingRun(project.params, project.cell, len(project.vocabulary), Path("run"))
    listener.started(123, 14, resumed=False)
    for epoch in HISTORY:
        listener.epoch_ended(epoch, 2.0, 7.0)
    listener.finished(9.0)
    return Path("run").read_text()
