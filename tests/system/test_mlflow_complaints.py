"""What users of MLflow complain of most, by its number in its tracker: the fault in MLflow alone, then what is here.

docs/dvc-and-mlflow.md says it in words. Those of DVC are in test_dvc_complaints.py.
"""

import importlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from typer.testing import CliRunner
from werkzeug.serving import make_server

from pipeline.cli import app
from pipeline.inference.server import application
from pipeline.provenance.dvc import dvc_digest
from pipeline.tracking import runs
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.store import Store, connect
from tests.conftest import saved_model
from tests.inference.asgi import ask
from tests.projects import HISTORY, Project
from tests.system.bare_dvc import dvc

WSGI = Callable[..., Any]

pytestmark = pytest.mark.slow  # another version of MLflow alone could change much


class Server:
    """MLflow's own server in this process, whose answers can get lost on their way."""

    def __init__(self, answer: WSGI) -> None:
        self._answer = answer
        self.losing: dict[str, int] = {}  # answers to lose, by the end of the path asked for
        self._server = make_server("127.0.0.1", 0, self._asked, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _asked(self, environment: dict[str, Any], start: Callable[..., Any]) -> Any:
        ending = environment["PATH_INFO"].rpartition("mlflow/")[2]
        if self.losing.get(ending):
            self.losing[ending] -= 1
            b"".join(self._answer(environment, lambda *_: None))  # done, but nobody hears of it
            start("503 Service Unavailable", [("Content-Length", "0")])
            return []
        return self._answer(environment, start)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """With a store of its own; MLFLOW_TRACKING_URI names it."""
    import mlflow.server
    from mlflow.server import handlers
    from mlflow.tracking._model_registry import utils

    # Other tests of this process may have told MLflow which hosts to answer, and later ones need their own stores.
    for name in ("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(utils, "_registry_uri", None)
    answer = importlib.reload(mlflow.server).app
    shutil.copy("mlflow.db", "server.db")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{project.folder}/server.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", (project.folder / "artifacts").as_uri())
    for name in ("_tracking_store", "_model_registry_store"):
        monkeypatch.setattr(handlers, name, None)
    handlers._get_tracking_store()  # which becomes that of the process, too
    handlers._get_model_registry_store()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    made = Server(answer)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    yield made
    made.stop()


def training_run(project: Project) -> TrainingRun:
    return TrainingRun(project.params, project.cell, len(project.vocabulary), Path("run"))


def train(project: Project, until: int = 2, resumed: bool = False) -> TrainingRun:
    """A training run that is mirrored up to epoch `until`, and not ended."""
    mirrored = training_run(project)
    mirrored.started(123, 14, resumed)
    for record in HISTORY[:until]:
        mirrored.epoch_ended(record, 2.0, 7.0)
    return mirrored


def steps(store: Store, run_id: str, key: str) -> list[int]:
    return [point.step for point in store.client.get_metric_history(run_id, key)]


def test_mlflow_4693_outages_at_init_and_servers_that_stop(
    project: Project, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow raises in whatever trains, at its first call or a later one; here it costs one line, and sync mends it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(server.url)
    run = client.create_run("0")
    halfway = train(project, until=1)
    assert capsys.readouterr().err == ""
    server.stop()
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        MlflowClient(server.url).create_run("0")
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        client.log_metric(run.info.run_id, "loss", 1.0)

    halfway.epoch_ended(HISTORY[1], 2.0, 7.0)
    halfway.finished(9.0)
    train(project).finished(9.0)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2  # of the run that was under way, and of the one that begins without a server
    assert all(line.startswith("warning: nothing more goes to MLflow") and "`rnnlm sync`" in line for line in warnings)


def test_mlflow_8238_a_lost_answer_makes_no_ghost_run(project: Project, server: Server) -> None:
    """MLflow's client asks again where no answer arrived, and its server makes a second run, which never ends."""
    from mlflow import MlflowClient

    client = MlflowClient(server.url)
    server.losing["runs/create"] = 1
    run = client.create_run("0")
    ghosts = [other for other in client.search_runs(["0"]) if other.info.run_id != run.info.run_id]
    assert [ghost.info.status for ghost in ghosts] == ["RUNNING"]

    server.losing["runs/create"] = 1
    train(project).finished(9.0)
    (only,) = connect().runs()
    assert only.info.status == "FINISHED"
    # Where no answer comes at all, the run that was made is completed once the server is back.
    project.train(seed=2)
    server.losing["runs/create"] = 2
    train(project).finished(9.0)
    assert len(connect().runs()) == 3
    runs.log_evaluation(project.params, project.cell.name)
    assert [run.info.status for run in connect().runs()] == ["FINISHED", "FINISHED"]


def test_mlflow_10510_a_resumed_run_has_each_step_once(project: Project) -> None:
    """A job that starts again makes another run, or doubles the steps since its checkpoint; ours finds both."""
    store = connect()
    alone = store.client.create_run("0").info.run_id
    for step in (1, 2, 2, 3):  # killed in 3, it goes on from a checkpoint after 1
        store.client.log_metric(alone, "loss", 1 / step, step=step, timestamp=len(steps(store, alone, "loss")))
    assert steps(store, alone, "loss") == [1, 2, 2, 3]

    train(project, until=1).failed(killed=True)
    train(project, until=2, resumed=True).finished(9.0)
    (run,) = store.runs()
    assert run.info.status == "FINISHED"
    assert steps(store, run.info.run_id, "valid/loss") == [1, 2]


def test_mlflow_3144_a_moved_checkout_finds_its_artifacts(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's database keeps absolute addresses, and no command changes them; `rnnlm relocate` does, and is named."""
    from mlflow import MlflowClient

    runs.log_evaluation(project.params, project.cell.name)
    (run,) = connect().runs()
    monkeypatch.chdir("/")
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    shutil.move(project.folder, moved)
    project.folder.mkdir()
    monkeypatch.chdir(moved)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    client = MlflowClient(f"sqlite:///{moved}/mlflow.db")
    assert client.list_artifacts(run.info.run_id) == []  # and no word of those that are lost

    assert "run `rnnlm relocate`" in str(CliRunner().invoke(app, ["runs"]).exception)
    done = CliRunner().invoke(app, ["relocate"])
    assert done.exit_code == 0, done.output
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["evaluation"]
    assert "cat" in (moved / client.download_artifacts(run.info.run_id, "evaluation/samples.txt")).read_text()


def test_mlflow_2730_many_runs_are_listed_with_a_query_a_table(project: Project) -> None:
    """MLflow makes an object for each metric of each run; benchmarks/dvc_and_mlflow.py has the times of 3,000 runs."""
    from mlflow.entities import Metric
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric

    store, count, metrics = connect(), 5, 30
    for number in range(count):
        run_id = store.client.create_run(store.experiment_id, run_name=f"run {number}").info.run_id
        store.client.log_batch(run_id, [Metric(f"test/{key}", key + number, 0, 0) for key in range(metrics)])
    engine = store.client._tracking_client.store.engine
    loaded: list[Any] = []
    queries: list[str] = []

    def load(made: Any, context: Any) -> None:
        loaded.append(made)

    def query(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        queries.append(statement)

    event.listen(SqlLatestMetric, "load", load)
    event.listen(engine, "before_cursor_execute", query)
    try:
        found = store.client.search_runs([store.experiment_id])
        assert len(loaded) == count * metrics
        loaded.clear()
        queries.clear()
        listed = store.runs()
        assert loaded == []
        assert len(queries) == 4
    finally:
        event.remove(SqlLatestMetric, "load", load)
        event.remove(engine, "before_cursor_execute", query)
    assert [(run.info.run_id, run.data.metrics) for run in listed] == [
        (run.info.run_id, run.data.metrics) for run in found
    ]
    printed = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)
    assert [run["name"] for run in printed] == [run.info.run_name for run in found]


def test_mlflow_867_the_exact_data_of_a_run_by_the_command_on_its_page(project: Project) -> None:
    """MLflow names a digest and a path, where something else lies by now; the command brings back those bytes."""
    train(project).finished(9.0)
    runs.log_evaluation(project.params, project.cell.name)
    (run,) = (store := connect()).runs()
    paths = ["data/encoded/train", "data/encoded/valid", "data/encoded/test", "data/vocabulary.tsv"]
    digests = {path: dvc_digest(Path(path)) for path in paths}
    for path in paths:
        put_into_cache(path)
    for file in [Path("data/vocabulary.tsv"), *Path("data/encoded").rglob("*.npy")]:
        file.write_bytes(b"of another corpus")

    (used, *_) = store.run(run.info.run_id).inputs.dataset_inputs  # pyrefly: ignore[missing-attribute]
    (place,) = json.loads(used.dataset.source).values()
    assert dvc_digest(Path(place)) != used.dataset.digest

    (command,) = re.findall(r"`rnnlm (data .+) FOLDER`", store.run(run.info.run_id).data.tags["mlflow.note.content"])
    done = CliRunner().invoke(app, [*command.split(), "back"])
    assert done.exit_code == 0, done.output
    assert {path: dvc_digest(Path("back", path)) for path in paths} == digests
    assert sorted(done.stdout.splitlines()) == sorted(str(Path("back", path).absolute()) for path in paths)


def put_into_cache(path: str) -> None:
    """As `dvc repro` does with an output."""
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.transfer import transfer

    with dvc() as repo:
        cache = repo.cache.local
        staging, _, made = build(cache, str(Path(path).absolute()), localfs, "md5")
        transfer(staging, cache, {made.hash_info}, shallow=False)


def test_mlflow_5265_4886_served_without_building_an_environment_and_400_for_bad_input(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`mlflow models serve` builds an environment first, or fails to, and answers bad input with 500 or 200."""
    from click.testing import CliRunner as Click
    from mlflow import pyfunc
    from mlflow.models.cli import commands
    from mlflow.pyfunc import scoring_server

    Path("echo.py").write_text(
        "from mlflow.models import set_model\n"
        "from mlflow.pyfunc import PythonModel\n"
        "class Echo(PythonModel):\n"
        "    def predict(self, context, model_input: list[str], params=None):\n"
        "        return model_input\n"
        "set_model(Echo())\n"
    )
    pyfunc.save_model("echo", python_model="echo.py", pip_requirements=["mlflow"])
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))  # neither virtualenv nor pyenv
    assert Click().invoke(commands, ["serve", "-m", "echo"]).exit_code == 1

    bad: dict[str, Any] = {
        "no Content-Type": (b'{"inputs": ["a"]}', ()),
        "unknown parameter": (b'{"inputs": ["a"], "params": {"temprature": 1}}',),
        "not JSON": (b"{nope",),
    }
    alone = scoring_server.init(pyfunc.load_model("echo"))
    assert {name: ask(alone, *sent)[0] for name, sent in bad.items()} == {
        "no Content-Type": 500,
        "unknown parameter": 200,
        "not JSON": 400,  # fixed upstream since
    }
    ours = application(saved_model(project.train(), project.vocabulary), None)
    assert ask(ours, b'{"inputs": ["the cat"]}')[0] == 200
    for name, sent in bad.items():
        status, answer = ask(ours, *sent)
        assert status == 400, name
        assert json.loads(answer).keys() == {"error_code", "message"}
