import pytest

from pipeline.model.folder import model_digest
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.store import connect
from pipeline.tracking.sync import sync
from tests.projects import Project, lock_everything


def test_sync_registers_what_mlflow_missed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(runs, "register", lambda *_: False)
        runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    assert store.versions() == []
    lock_everything()
    sync(store)
    assert [version.tags["model_digest"] for version in store.versions()] == [model_digest(project.models)]


def test_what_is_there_stays_and_what_no_stage_made_is_left_out(project: Project) -> None:
    store = connect()
    with pytest.raises(InputError, match=r"dvc\.lock is missing"):
        sync(store)
    lock_everything()
    assert [line.partition(" (")[0] for line in sync(store)] == ["lstm: run made"]
    assert [line.partition(" (")[0] for line in sync(store)] == ["lstm: up to date"]
    project.train(seed=2)  # of which dvc.lock knows nothing
    assert sync(store) == ["lstm: no model of these parameters; run `dvc repro` first"]
    assert len(store.versions()) == 1
