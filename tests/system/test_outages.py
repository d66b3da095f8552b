"""A tracking server that dies, hangs or fails: training ends in the same bytes, and `rnnlm sync` mends the rest."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.system.conftest import Clone, tracking_server
from tests.text.sources.server import serving

RESTARTS = 5

pytestmark = pytest.mark.soak


@pytest.fixture
def clone(encoded: Clone) -> Clone:
    encoded.repro("train@gru")
    return encoded


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
