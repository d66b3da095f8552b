"""`rnnlm gc`: says what it would free, frees that, and leaves what champions, gates and `reproduce` need."""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import load_params
from pipeline.provenance.dvc import StageRecord, dvc_digest, restore
from pipeline.review import cleaning
from pipeline.review.promotion import carry_out, decide, rollback
from pipeline.tracking import sync
from pipeline.tracking.logged_model import read_model
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.review.candidates import as_before, candidate, write_corpus

LATER = 40 * cleaning.DAY


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty days from now, for gc alone."""
    now = time.time
    monkeypatch.setattr(cleaning, "time", type("Clock", (), {"time": staticmethod(lambda: now() + LATER)}))


def gc(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["gc", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def promote(version: str) -> None:
    store = connect()
    carry_out(store, decide(store, version, 0.95, load_params()))


def has_model(version: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        read_model(connect(), f"models:/rnnlm/{version}", "it")
    except (MlflowException, cleaning.InputError):
        return False
    return True


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "ranked"


@pytest.fixture
def ranked(project: Project, kept: Path) -> Project:
    """v1 and v2 were champion, v3 was and was rolled back, v4 never was anything, v5 is the challenger, v6 in data/."""

    def make() -> None:
        write_corpus()
        for number, power in enumerate((0.0, 0.4, 1.0), 1):
            candidate(project, power)
            promote(str(number))
        rollback(connect())
        for power in (0.1, 0.2, 0.3):
            candidate(project, power)
        connect().set_alias("challenger", "5")

    as_before(project, kept, make)
    assert connect().aliases() == {"champion": "2", "challenger": "5"}
    return project


@pytest.mark.slow
def test_models_without_rank_are_freed_and_only_when_asked_to(ranked: Project, later: None) -> None:
    runs = {run.info.run_id for run in connect().runs()}
    told = gc()
    assert "1 models in MLflow" in told
    assert told.endswith("nothing was freed yet; `rnnlm gc --yes` frees it\n")
    assert all(has_model(str(number)) for number in range(1, 7))
    store = connect()
    (listed,) = cleaning.leftovers(store, 30)
    store.client.set_registered_model_alias("rnnlm", "mine", "4")  # by somebody else, meanwhile
    listed.free()
    assert has_model("4")
    store.client.delete_registered_model_alias("rnnlm", "mine")
    assert gc("--yes").endswith("freed\n")
    assert [has_model(str(number)) for number in range(1, 7)] == [True, True, True, False, True, True]
    assert gc() == "nothing to free: all that is older than 30 days is needed\n"
    store = connect()
    assert {run.info.run_id for run in store.runs()} == runs
    assert [version.version for version in store.versions()] == [1, 2, 3, 5, 6]
    assert rollback(store) == ("2", "1")
    # A model that comes back is logged and registered again.
    candidate(ranked, 0.1)
    sync.sync(store)
    assert has_model("7")


@pytest.mark.slow
def test_nothing_young_is_freed(ranked: Project) -> None:
    (ranked.folder / ".rnnlm/checkpoints/lstm/key").mkdir(parents=True)
    assert gc("--older-than", "1").startswith("nothing to free")


@pytest.mark.slow
def test_deleted_runs_are_freed_but_not_the_one_of_the_champion(ranked: Project, later: None) -> None:
    store = connect()
    versions = {f"{version.version}": str(version.run_id) for version in store.versions()}
    for number in ("2", "4"):
        store.client.delete_run(versions[number])
    told = gc("--yes")
    assert "deleted runs" not in told  # deleted just now: MLflow's own clock says when
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE runs SET deleted_time = 0 WHERE deleted_time IS NOT NULL")
    folder = Path("mlruns") / versions["4"]
    assert folder.is_dir()
    told = gc("--yes")
    assert "1 deleted runs in MLflow" in told
    assert not folder.exists()
    assert has_model("2")
    assert not has_model("4")


def old(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time.time() - LATER, time.time() - LATER))
    os.utime(path.parent, (time.time() - LATER, time.time() - LATER))
    return path


def test_old_leftovers_go_and_what_is_the_users_own_stays(project: Project) -> None:
    gone = [".rnnlm/checkpoints/lstm/key/1.safetensors", ".rnnlm/downloads/a", ".rnnlm/mlflow-ui.log"]
    gone += [".rnnlm/reproduce/run/file", ".rnnlm/sweeps/key/journal.log", ".rnnlm/recipes/tiny/file"]
    busy = old(Path(".rnnlm/reproduce/busy/file"))
    kept = [".rnnlm/set-aside/mine", ".rnnlm/retrain/report.md", ".rnnlm/timings/lstm.json", "mine/file", "data/mine"]
    kept += [".rnnlm/recipes/tiny.json"]
    for name in (*gone, *kept):
        old(Path(name), "x" * 1500)
    new = Path(".rnnlm/checkpoints/lstm/other/1.safetensors")
    new.parent.mkdir()
    new.write_text("x")
    told = gc()
    assert "   9.0 kB  in all" in told
    in_json = json.loads(gc("--json"))
    assert in_json["freed"] is False
    assert all(Path(path).exists() for item in in_json["leftovers"] for path in item["paths"])
    assert sum(item["bytes"] for item in in_json["leftovers"]) == 9001
    assert all(Path(name).is_file() for name in (*gone, *kept))
    with subprocess.Popen(["sleep", "1000"], cwd=busy.parent) as worker:  # its parent was killed
        gc("--yes")
        worker.kill()
    assert busy.is_file()
    assert not [name for name in gone if Path(name).exists()]
    assert all(Path(name).is_file() for name in kept)
    assert new.is_file()


def cached(content: str) -> str:
    """The hash of a file that is in DVC's cache and nowhere else."""
    made = Path("made")
    made.write_text(content)
    digest = dvc_digest(made)
    old(Path(".dvc/cache/files/md5") / digest[:2] / digest[2:], content)
    made.unlink()
    return digest


@pytest.mark.slow
def test_data_of_any_run_stays_and_of_none_goes(ranked: Project) -> None:
    from pipeline.tracking.record import Provenance, _write

    store = connect()
    names = ("champion's sentences", "read by a run of no rank", "of nobody")
    tested, read, nobody = map(cached, names)

    def record(version: str, digest: str) -> None:
        _write(Path("provenance.json"), Provenance(None, {}, {"tokenize": StageRecord({}, {"data/a": digest}, {})}))
        store.client.log_artifact(str(store.version(version).run_id), "provenance.json", "provenance")

    for version, digest in (("2", tested), ("4", read)):
        record(version, digest)
    # A champion's run that somebody has deleted is not freed, so its data are needed as before.
    store.client.delete_run(str(store.version("2").run_id))
    assert "1 files in DVC's cache" in gc("--yes")
    for number, digest in enumerate((tested, read)):
        restore("data", digest, Path(f"back{number}"))
    assert not (Path(".dvc/cache/files/md5") / nobody[:2] / nobody[2:]).exists()
    # Found, and then read by a run that ends before it is freed.
    late = cached("named meanwhile")
    (found,) = (item for item in cleaning.leftovers(store, 1) if item.kind == "files in DVC's cache")
    record("4", late)
    found.free()
    restore("data", late, Path("late"))


@pytest.mark.slow
def test_where_a_record_is_damaged_nothing_is_freed(ranked: Project) -> None:
    store = connect()
    nobody = cached("of nobody")
    Path("provenance.json").write_text("{")
    store.client.log_artifact(str(store.version("2").run_id), "provenance.json", "provenance")
    with pytest.raises(cleaning.InputError, match="is damaged, so it cannot be explained"):
        gc("--yes")
    assert (Path(".dvc/cache/files/md5") / nobody[:2] / nobody[2:]).exists()


def test_a_cache_that_others_may_share_is_left_alone(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nobody = cached("of nobody")
    shared = tmp_path_factory.mktemp("shared") / "cache"
    shutil.move(".dvc/cache", shared)
    with Path(".dvc/config").open("a") as config:
        config.write(f"[cache]\n    dir = {shared}\n")
    os.utime(shared / "files/md5" / nobody[:2] / nobody[2:], (0, 0))
    assert gc().startswith("nothing to free")
