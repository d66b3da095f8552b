from pathlib import Path

import pytest
import yaml

from pipeline.model.folder import model_digest
from pipeline.provenance.dvc import dvc_digest
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
    assert sync(store) == ["lstm: no model of these parameters and this text; run `dvc repro` first"]
    assert len(store.versions()) == 1


def test_a_model_of_other_text_is_left_out(project: Project) -> None:
    """After new text and an interrupted `dvc repro`: the run would name the text that lies there."""
    lock_everything()
    lock, store = yaml.safe_load(Path("dvc.lock").read_text()), connect()
    (read,) = lock["stages"]["train@lstm"]["deps"] = [{"path": "data/encoded/train", "md5": "of other text"}]
    for path, md5 in (("data/pins/train.txt", "of other code"), ("data/warm_start", "not pulled")):
        lock["stages"]["train@lstm"]["deps"].append({"path": path, "md5": md5})
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert sync(store) == ["lstm: no model of these parameters and this text; run `dvc repro` first"]
    assert store.runs() == []
    read["md5"] = dvc_digest(Path(read["path"]))
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert [line.partition(" (")[0] for line in sync(store)] == ["lstm: run made"]
