"""The open store: what it answers, and that asking changes nothing."""

import atexit
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.pyfunc import load_model
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.review.names import find
from pipeline.runtime import settings as mlflow_settings
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.logged_model import read_model
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import (
    LARGEST_PAGE,
    LONGEST_NOTE,
    BestEffort,
    connect,
    fitting,
    is_own,
    open_store,
    tracking_uri,
)
from tests.conftest import PROJECT
from tests.projects import Project
from tests.review.candidates import candidate, write_corpus
from tests.text.sources.liar import TRICKLES, trickling


def test_reading_never_writes(project: Project) -> None:
    write_corpus(sentences=20)
    for power in (0.5, 1.0):
        candidate(project, power=power)
    connect().set_alias("champion", "1")
    before = Path("mlflow.db").read_bytes()
    for command in (["runs"], ["runs", "--json"], ["compare", "v1", "v2"], ["relocate"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    run = find(connect(), "champion")
    assert read_provenance(connect(), run.info.run_id) is not None
    served: Any = load_model("models:/rnnlm@champion")
    assert len(served.predict(["w1 w2"])) == 1
    # A store that was written to would differ: SQLite counts the changes in its header.
    assert Path("mlflow.db").read_bytes() == before
    connect().tag(run.info.run_id, seen="true")
    assert Path("mlflow.db").read_bytes() != before


def test_more_points_than_mlflow_takes_at_once_all_arrive(project: Project) -> None:
    store = connect()
    run = store.client.create_run(store.experiment_id).info.run_id
    store.log_points(run, {f"m{number}": 1.0 for number in range(LARGEST_PAGE + 1)}, 0)
    assert len(store.run(run).data.metrics) == LARGEST_PAGE + 1


def test_artifacts_are_read_by_their_path(project: Project) -> None:
    store = connect()
    run = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_text(run, "a", "some/a.txt")
    assert store.read_file(run, "some/a.txt") == b"a"
    assert store.read_file(run, "some/b.txt") is None


@pytest.mark.parametrize("name", ["feature%2Fwords", "a 100%", "q?x=%41&y#z é"])
def test_a_project_folder_may_have_any_name(
    name: str, project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", ends.append)
    above = tmp_path_factory.mktemp("above")
    shutil.copytree(project.folder, above / name)
    monkeypatch.chdir(above / name)
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    assert read_model(store, "models:/rnnlm/1", "it").vocabulary.tokens == project.vocabulary.tokens
    (run,) = store.runs()
    assert (
        store.read_file(run.info.run_id, "evaluation/metrics.json")
        == Path(f"mlruns/{run.info.run_id}/artifacts/evaluation/metrics.json").read_bytes()
    )
    assert not (project.folder / "mlruns").exists()
    for end in ends:
        end()
    assert list(above.iterdir()) == [above / name]


def test_blanks_around_the_address_are_no_part_of_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "\n sqlite:///mlflow.db\r\n")
    before = sorted(Path().iterdir())
    connect()
    assert sorted(Path().iterdir()) == before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " \n")
    assert tracking_uri() == f"sqlite:///{project.folder}/mlflow.db"


@pytest.mark.parametrize("address", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_store(address: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(InputError, match=r" is \S*mlruns, a folder, .*`mlflow migrate-filestore`"), open_store():
        pass


def test_of_a_deleted_experiment_the_command_is_named_that_brings_it_back(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    store = connect()
    run = store.client.create_run(store.experiment_id).info.run_id
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(InputError, match=r"was deleted; bring it back with `.*`$") as refused, open_store():
        pass
    assert BestEffort()(lambda store: store.runs()) is None
    assert "was deleted; bring it back with" in capsys.readouterr().err
    variable, *command = str(refused.value).split("`")[1].split()
    name, _, uri = variable.partition("=")
    done = subprocess.run(command, env=os.environ | {name: uri}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [found.info.run_id for found in connect().runs()] == [run]


def test_a_missing_driver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:pw@127.0.0.1:1/db")
    told = r"^MLflow failed \(ModuleNotFoundError: No module named '\w+'\); [^\n]*$"
    with pytest.raises(InputError, match=told), open_store():
        pass


@pytest.mark.slow
def test_two_first_uses_at_once_make_one_store(project: Project, tmp_path: Path) -> None:
    code = "from pipeline.tracking.store import connect; print(connect().experiment_id)"
    uri = f"sqlite:///{tmp_path}/new/runs.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len({output for output, _ in told}) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["runs.db"]


def test_a_note_is_cut_at_the_end_of_a_line() -> None:
    lines = "".join(f"{number:099}\n" for number in range(60))
    cut = fitting(lines)
    assert len(cut) <= LONGEST_NOTE
    assert lines.startswith(f"{cut}\n")
    assert fitting("short") == "short"


@pytest.mark.parametrize("mark", ["@", "/", "?", "#", ":", " ", "%40", "'", '"', ""])
@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:{}@127.0.0.1:1/db",
        "mysql+nothing://me:{}@127.0.0.1:1/db",
        "mssql+pyodbc://me:{}@127.0.0.1:1/db?driver=x",
        "http://me:{}@127.0.0.1:1/mlflow",
        "https://127.0.0.1:1/mlflow?token={}",
        "nothing://me:{}@127.0.0.1:1/",
    ],
)
def test_no_store_shows_its_password(
    uri: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(f"quxy{mark}vbkj"))
    monkeypatch.delenv("RNNLM_TRACKING", raising=False)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    with pytest.raises(InputError, match=r"MLflow failed \(\w+") as refused, open_store() as store:
        store.runs()
    assert BestEffort()(lambda store: store.runs()) is None
    said = f"{refused.value}{capsys.readouterr()}"
    assert "warning: nothing more goes to MLflow (" in said
    assert not [word for word in ("quxy", "vbkj", "me:") if word in said], said


def test_where_a_server_is_silent_the_line_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    told = r"^MLflow failed \(MlflowException: .*; MLFLOW_HTTP_REQUEST_TIMEOUT sets the limit\); is MLFLOW_TRACKING_URI"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(InputError, match=told), open_store():
            pass
    with pytest.raises(InputError, match=r"^MLflow failed \((?!.*the limit)"), open_store():  # nobody is there
        pass


@pytest.mark.parametrize("kind", TRICKLES)
def test_a_server_that_trickles_holds_nobody_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_settings, "exchange_seconds", lambda _: 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with trickling(kind) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        with pytest.raises(InputError, match=r"^MLflow failed \(MlflowException"), open_store():
            pass


def test_a_login_in_the_environment_is_not_shown_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    monkeypatch.delenv("RNNLM_TRACKING", raising=False)
    monkeypatch.setattr("pipeline.tracking.store.connect", lambda: None)
    assert BestEffort()(lambda store: {}["who is hunter22?"]) is None
    assert "hunter" not in capsys.readouterr().err


def test_a_store_is_ones_own_on_this_machine_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_own()
    for uri, own in {
        "http://127.0.0.1:5000/below": True,
        "https://localhost": True,
        "http://[::1]:80": True,
        "http://127.0.0.1@example.org": False,
        "http://127.0.0.1.example.org": False,
        "http://10.0.0.1": False,
        "databricks": False,
        "postgresql://127.0.0.1/db": False,
    }.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert is_own() == own, uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    if os.geteuid() == 0:  # only root can give files away
        for path in (Path("mlflow.db"), Path()):
            os.chown(path, 65534, 65534)
            assert not is_own()
            os.chown(path, 0, 0)
    assert is_own()
