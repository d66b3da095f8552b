"""A tracking server that dies, hangs or fails: training ends in the same bytes, and `rnnlm sync` mends the rest."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.test_interruptions import SOAK, make
from tests.system.test_pipeline import Clone
from tests.text.sources.server import serving

RESTARTS = 5

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SOAK, reason="part of `make soak`")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = make(tmp_path_factory.mktemp("clone"))
    clone.repro("train@gru")
    return clone


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class TrackingServer:
    """MLflow's own server on loopback, which can be killed and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    server = TrackingServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def train_again(clone: Clone, uri: str) -> subprocess.Popen:
    (clone.folder / "data/models/gru/model.safetensors").unlink()
    environment = clone.environment | {"MLFLOW_TRACKING_URI": uri}
    environment.pop("RNNLM_TRACKING")
    command = [sys.executable, "-m", "stages.train", "gru"]
    return subprocess.Popen(command, cwd=clone.folder, env=environment, stderr=subprocess.PIPE, text=True)


def check(process: subprocess.Popen, clone: Clone, before: dict[str, str]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert clone.digests() == before
    assert "Traceback" not in errors
    assert sum(line.startswith("warning: ") for line in errors.splitlines()) <= 1, errors


def test_a_server_that_dies_and_comes_back(clone: Clone, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    before = clone.digests()
    with tracking_server(tmp_path) as server:
        process = train_again(clone, server.url)
        for _ in range(RESTARTS):
            time.sleep(4)
            server.kill()
            server.start()
        check(process, clone, before)
        environment = {"MLFLOW_TRACKING_URI": server.url, "RNNLM_TRACKING": "on"}
        synced = subprocess.run(
            ["rnnlm", "sync"], cwd=clone.folder, env=clone.environment | environment, capture_output=True, text=True
        )
        assert synced.returncode == 0, synced.stderr
        client = MlflowClient(server.url)
        experiment = client.get_experiment_by_name("rnnlm")
        assert experiment
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        epochs = [point.step for point in client.get_metric_history(run.info.run_id, "valid/perplexity")]
        assert sorted(epochs) == list(range(1, int(max(epochs)) + 1))
        assert run.data.tags["model_digest"]


def test_a_server_that_answers_errors(clone: Clone) -> None:
    before = clone.digests()
    with serving() as server:
        check(train_again(clone, server.url), clone, before)


def test_a_server_that_never_answers(clone: Clone) -> None:
    before, held = clone.digests(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        check(train_again(clone, f"http://127.0.0.1:{listener.getsockname()[1]}"), clone, before)
        assert held
        for connection, _ in held:
            connection.close()
        listener.shutdown(socket.SHUT_RDWR)
