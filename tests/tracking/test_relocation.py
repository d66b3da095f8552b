"""`rnnlm relocate` in a checkout that was moved or copied: files of runs, models and registered versions are found."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.store import connect
from tests.projects import Project


@pytest.fixture
def home(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one evaluated run, whose model is registered; the folder's name wants quoting in a URI."""
    folder = tmp_path_factory.mktemp("a") / "first ä home"
    os.chdir("/")
    shutil.move(project.folder, folder)
    project.folder.mkdir()
    go_to(folder)
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (logged,) = store.client.search_logged_models([store.experiment_id])
    store.client.set_registered_model_alias("rnnlm", "champion", "1")
    # As older versions of MLflow, and people, do it: by the address of the files.
    store.client.create_model_version("rnnlm", logged.artifact_location, logged.source_run_id)
    return folder


def go_to(folder: Path) -> None:
    """As a new process there: MLflow keeps the address of the store in the environment of the old one."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.chdir(folder)


def relocate(folder: Path) -> str:
    """What the command prints there."""
    go_to(folder)
    done = CliRunner().invoke(app, ["relocate"])
    assert done.exit_code == 0
    return done.output.strip()


def everything_is_inside(folder: Path) -> None:
    """List and download the files of the run and load the model by each of its names, from `folder` alone."""
    from mlflow import artifacts, pyfunc

    go_to(folder)
    store = connect()
    run = store.run(*(run.info.run_id for run in store.runs()))
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["evaluation"]
    assert "cat" in artifacts.load_text(f"runs:/{run.info.run_id}/evaluation/samples.txt")
    (model,) = run.outputs.model_outputs if run.outputs else []
    for uri in (f"models:/{model.model_id}", "models:/rnnlm@champion", "models:/rnnlm/2"):
        assert Path(artifacts.download_artifacts(uri)).is_relative_to(folder)
        served: Any = pyfunc.load_model(uri)
        assert len(served.predict(["the cat"])) == 1
    assert (store.client.get_model_version("rnnlm", "2").source or "").startswith(folder.as_uri())


def test_in_a_moved_checkout(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert relocate(home).startswith("nothing to do")
    moved = tmp_path_factory.mktemp("b") / "moved"
    os.chdir("/")
    shutil.move(home, moved)
    # Of the experiment, the run, its model and one version, and two of the version that was registered by an address.
    assert relocate(moved) == (f"6 addresses in the database now start with {moved}/mlruns instead of {home}/mlruns")
    everything_is_inside(moved)
    assert relocate(moved).startswith("nothing to do")
    assert not home.exists()


def test_in_a_copy_and_in_the_original_beside_it(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("c") / "copy of it"
    shutil.copytree(home, copy)
    assert str(copy) in relocate(copy)
    everything_is_inside(copy)
    everything_is_inside(home)


def test_until_then_one_line_names_the_command_and_nothing_is_written(
    home: Path, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chdir("/")
    shutil.move(home, project.folder / "moved")
    go_to(project.folder / "moved")
    before = Path("mlflow.db").read_bytes()
    for command in (["runs"], ["compare", "v1", "v2"], ["promote"], ["rollback"], ["reproduce", "v1"], ["ui"]):
        refused = CliRunner().invoke(app, command).exception
        assert isinstance(refused, InputError)
        assert f"looks for them in {home}/mlruns; run `rnnlm relocate`" in str(refused)
    # A stage goes on.
    runs.log_evaluation(project.params, project.cell.name)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "run `rnnlm relocate`" in line
    assert Path("mlflow.db").read_bytes() == before
    assert not home.exists()


def test_new_runs_go_where_the_store_is_now(home: Path, project: Project) -> None:
    os.chdir("/")
    shutil.move(home, project.folder / "moved")
    relocate(project.folder / "moved")
    project.train(seed=2)
    runs.log_evaluation(project.params, project.cell.name)
    found = connect().runs()
    assert len(found) == 2
    for run in found:
        assert (run.info.artifact_uri or "").startswith((project.folder / "moved" / "mlruns").as_uri())
    assert not home.exists()


def test_a_database_whose_artifacts_stayed_behind_goes_on_using_them(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "mlflow.db", tmp_path / "mlflow.db")
    (tmp_path / "mlruns").mkdir(exist_ok=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(home / name, tmp_path)
    assert relocate(tmp_path).startswith("nothing to do")
    (run,) = connect().runs()
    assert (run.info.artifact_uri or "").startswith(home.as_uri())


def test_a_store_elsewhere_keeps_its_artifacts_beside_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store_folder = tmp_path_factory.mktemp("store")
    shutil.copy(project.folder / "mlflow.db", store_folder / "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store_folder}/runs.db")
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (run,) = store.runs()
    assert (run.info.artifact_uri or "").startswith((store_folder / "mlruns").as_uri())
    assert not (project.folder / "mlruns").exists()
