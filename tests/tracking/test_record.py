"""What a run's provenance says: the stages' inputs and outputs, and of a restored model what dvc.lock knows."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.provenance.dvc import StageRecord, dvc_digest, stage_record
from pipeline.review.reproduce import reproduce
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.record import PACKAGES, PATCH, Provenance, code_tags, read_artifact, read_provenance
from pipeline.tracking.store import Store, connect
from tests.projects import Project
from tests.tracking.test_listener import train

WEIGHTS = "data/models/lstm/model.safetensors"


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def commit(project: Project) -> str:
    """The project as a commit of a repository."""
    git("init", "-q")
    Path(".gitignore").write_text("mlflow.db\nmlruns\nrun\n")
    git("add", "-A", ":(exclude)data")
    git("commit", "-qm", "one")
    return git("rev-parse", "HEAD")


def provenance_of(store: Store) -> tuple[str, Provenance]:
    (run,) = store.client.search_runs([store.experiment_id])
    found = read_provenance(store, run.info.run_id)
    assert found is not None
    return run.info.run_id, found


def test_a_run_names_what_its_stages_read_and_wrote(project: Project, commit: str) -> None:
    Path("new.py").write_text("a new file\n")
    listener = train(project)
    store = connect()
    run_id, begun = provenance_of(store)
    assert begun.commit == commit
    assert begun.stages["train"].outs == {}  # what lies there before the training has ended is another's
    assert begun.stages["train"].deps["data/encoded/train"] == dvc_digest(Path("data/encoded/train"))
    assert begun.stages["train"].params["cells.lstm"] == {"cell": "lstm"}
    assert b"+a new file" in (read_artifact(store, run_id, PATCH) or b"")
    assert b"torch==2." in (read_artifact(store, run_id, PACKAGES) or b"")

    project.train(seed=5)
    Path("data/vocabulary.tsv").write_text("changed while it trained")
    listener.finished(1.0)
    _, ended = provenance_of(store)
    assert ended.stages["train"].outs[WEIGHTS] == dvc_digest(Path(WEIGHTS))
    assert ended.stages["train"].deps == begun.stages["train"].deps

    runs.log_evaluation(project.params, project.cell.name)
    _, evaluated = provenance_of(store)
    assert evaluated.stages["train"] == ended.stages["train"]
    assert evaluated.stages["evaluate"].deps[WEIGHTS] == dvc_digest(Path(WEIGHTS))
    metrics = "data/evaluation/lstm/metrics.json"
    assert evaluated.stages["evaluate"].outs[metrics] == dvc_digest(Path(metrics))


def lock(**stages: StageRecord) -> None:
    """Write dvc.lock of these stages; `train` is `train@lstm`."""
    entries = {
        {"train": "train@lstm"}.get(name, name): {
            "cmd": "none",
            "deps": [_entry(path, digest) for path, digest in record.deps.items()],
            "outs": [_entry(path, digest) for path, digest in record.outs.items()],
            "params": {"params.yaml": record.params},
        }
        for name, record in stages.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": json.loads(json.dumps(entries))}))


def _entry(path: str, digest: str | None) -> dict[str, str]:
    return {"path": path} if digest is None else {"path": path, "md5": digest}


def test_stages_before_the_training_are_those_that_made_its_data(project: Project, commit: str) -> None:
    encode = stage_record("encode")
    lock(encode=encode, vocabulary=dataclasses.replace(stage_record("vocabulary"), outs={"data/vocabulary.tsv": "old"}))
    train(project)
    _, found = provenance_of(connect())
    assert found.stages["encode"] == encode
    assert "vocabulary" not in found.stages  # dvc.lock tells of another vocabulary than the one that was read


def test_a_record_says_what_the_code_of_each_stage_did(project: Project, commit: str) -> None:
    pins = Path("data/pins/train.txt")
    pins.parent.mkdir(parents=True)
    pins.write_text("torch==2.0\npipeline/model/cells.py 0123456789abcdef\n")
    listener = train(project)
    _, begun = provenance_of(connect())
    assert begun.stages["train"].code == {"torch": "2.0", "pipeline/model/cells.py": "0123456789abcdef"}
    pins.write_text("torch==2.1\n")  # other code than it ran with
    listener.finished(1.0)
    _, ended = provenance_of(connect())
    assert ended.stages["train"].code == begun.stages["train"].code


def test_a_restored_model_is_explained_by_dvc_lock(project: Project, commit: str) -> None:
    record = stage_record("train@lstm")
    lock(train=record)
    runs.log_evaluation(project.params, project.cell.name)
    run_id, found = provenance_of(connect())
    del record.outs["data/models/lstm/seeds"]  # what is not this run's own
    assert found.stages["train"] == record
    assert found.commit == commit
    assert connect().client.get_run(run_id).data.tags["mlflow.source.git.commit"] == commit


def test_no_commit_is_claimed_for_a_model_of_other_code(project: Project, commit: str) -> None:
    record = stage_record("train@lstm")
    lock(train=dataclasses.replace(record, deps=record.deps | {"stages/train.py": "0" * 32}))
    runs.log_evaluation(project.params, project.cell.name)
    run_id, found = provenance_of(connect())
    assert found.commit is None
    assert "mlflow.source.git.commit" not in connect().client.get_run(run_id).data.tags


def test_no_secret_of_a_url_is_recorded(project: Project, commit: str) -> None:
    url = "https://example.org/corpus.csv?token=hunter2"
    download = StageRecord({url: "1" * 32}, {"data/vocabulary.tsv": dvc_digest(Path("data/vocabulary.tsv"))},
                           {"download": {"path": url, "sources": {"mine": [{"url": url}]}}})  # fmt: skip
    lock(vocabulary=download)
    train(project)
    _, found = provenance_of(connect())
    assert "https://example.org/corpus.csv" in str(found.stages["vocabulary"])
    assert "hunter2" not in str(found)


def test_damaged_provenance_is_named(project: Project, commit: str) -> None:
    train(project)
    store = connect()
    run_id, _ = provenance_of(store)
    (path,) = project.folder.glob("mlruns/*/artifacts/provenance/provenance.json")
    path.write_text('{"commit": null, "stages": []}')
    with pytest.raises(InputError, match=r"provenance\.json is damaged"):
        read_provenance(store, run_id)


def test_changed_code_is_marked_on_the_page_of_the_run(project: Project, commit: str) -> None:
    train(project).finished(1.0)
    store = connect()
    run_id, _ = provenance_of(store)
    clean = store.client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "incomplete" not in clean
    store.client.delete_run(run_id)
    Path("new.py").write_text("a new file\n")
    Path(".npmrc").write_text("hunter2\n")
    train(project).finished(1.0)
    run_id, _ = provenance_of(store)
    marked = store.client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "**The patch is incomplete**, it leaves out what is large or may be secret: `.npmrc`" in marked
    assert marked.startswith(clean.partition("Its exact data")[0])
    assert "uncommitted changes" in marked
    assert "new.py" in marked
    runs.log_evaluation(project.params, project.cell.name)
    assert "uncommitted changes" in store.client.get_run(run_id).data.tags["mlflow.note.content"]


def test_a_record_that_git_could_not_complete_says_so_on_the_run_and_is_not_rebuilt(
    project: Project, commit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # the checkout of another owner
    train(project).finished(1.0)
    run_id, found = provenance_of(connect())
    assert found.commit is None
    assert found.incomplete.startswith("fatal: detected dubious ownership in repository at ")
    run = connect().run(run_id)
    assert run.data.tags["provenance_incomplete"] == found.incomplete
    assert f"warning: MLflow's record of the code is incomplete: {found.incomplete}\n" in capsys.readouterr().err
    with pytest.raises(InputError, match=rf"^the record of run {run_id} is incomplete, .*: fatal: detected dubious"):
        reproduce(connect(), run)


def test_tags_name_the_commit_and_what_was_changed_since(
    project: Project, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the pipeline writes is not a change of what went in.
    Path("dvc.lock").write_text("x")
    assert code_tags() == {"mlflow.source.git.commit": commit, "git_dirty": "false"}
    Path("params.yaml").write_text("train: {}\n")
    Path("new.py").write_text("3\n")
    monkeypatch.setenv("DVC_EXP_NAME", "prone-owl")
    assert code_tags() == {
        "mlflow.source.git.commit": commit,
        "git_dirty": "true",
        "git_changed_files": "params.yaml, new.py",
        "dvc_experiment": "prone-owl",
    }


def test_outside_of_a_repository_no_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert code_tags() == {}
