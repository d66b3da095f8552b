"""What `rnnlm data` refuses; that it brings back the exact bytes is in tests/system/test_mlflow_complaints.py."""

from pathlib import Path

import pytest

from pipeline.review.run_data import restore_data
from pipeline.runtime.errors import InputError
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.review.candidates import record


def test_a_folder_that_is_there_and_a_run_without_a_record_are_refused(project: Project) -> None:
    store = connect()
    run_id = store.client.create_run(store.experiment_id).info.run_id
    with pytest.raises(InputError, match=f"run {run_id} does not say what it read"):
        restore_data(store, run_id, Path("back"))
    record(store, run_id)
    Path("back").mkdir()
    with pytest.raises(InputError, match="back is there already"):
        restore_data(store, run_id, Path("back"))
    assert not list(Path("back").iterdir())


def test_data_that_nobody_has_leave_no_half_folder(project: Project) -> None:
    store = connect()
    run_id = store.client.create_run(store.experiment_id).info.run_id
    record(store, run_id)
    before = set(Path.cwd().iterdir())
    with pytest.raises(InputError, match=r"^data/raw/documents.parquet \(2\) is"):
        restore_data(store, run_id, Path("new/back"))
    assert {path for path in Path.cwd().rglob("*") if "back" in path.name} == set()
    assert before <= set(Path.cwd().iterdir())
