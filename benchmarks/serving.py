"""Serving over HTTP: requests of many sentences against a loop of single calls, and how long a single call takes.

The model has the default shape and random weights, logged and served as those of the pipeline are, from a temporary
folder. `python -m benchmarks.serving --json FILE`; docs/performance.md explains the rows.
"""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import requests
import torch

import pipeline
from benchmarks.harness import REPEATS, Result, from_pairs, run, seconds
from pipeline.model.folder import SavedModel, TextRules, model_digest, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import ModelParams
from pipeline.params import load_params
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.logged_model import log_model
from pipeline.tracking.store import CHAMPION, MODEL, connect

TOGETHER, ALONE = 1000, 50  # sentences of a request, and single calls of a loop
CALLS = 200  # behind each latency
PATIENCE = 180  # seconds that a server may take to start on a busy machine
TASKS: dict[str, dict[str, Any]] = {"score": {}, "suggest": {}, "generate": {"count": 1, "max_length": 20}}


def rows() -> Iterator[Result]:
    """Throughput, then latencies."""
    vocabulary = Vocabulary(
        ["SENTENCE_START", "SENTENCE_END", *(f"word{i}" for i in range(7997)), "UNKNOWN_TOKEN"], [0] + [1] * 7999
    )
    shape = load_params().cells["lstm"].model
    with TemporaryDirectory() as folder:
        log_champion(Path(folder), shape, vocabulary)
        with champion_server(Path(folder)) as url, requests.Session() as session:
            yield throughput(session, url, texts(vocabulary, TOGETHER))
            for task, options in TASKS.items():
                yield from latency(session, url, task, options, texts(vocabulary, CALLS))


def texts(vocabulary: Vocabulary, count: int) -> list[str]:
    """Sentences of 5 to 30 words."""
    generator = np.random.default_rng(0)
    words = vocabulary.tokens[2:-1]
    return [" ".join(generator.choice(words, generator.integers(5, 31))) for _ in range(count)]


def throughput(session: requests.Session, url: str, sentences: list[str]) -> Result:
    """Sentences scored a second, all in one request and one after the other."""

    def together() -> None:
        ask(session, url, sentences)

    def alone() -> None:
        for sentence in sentences[:ALONE]:
            ask(session, url, [sentence])

    together()
    alone()
    pairs = [(seconds(together) / len(sentences), seconds(alone) / ALONE) for _ in range(REPEATS)]
    return from_pairs(f"score_{len(sentences)}", "a loop of single calls", pairs, 1, "sentences/s")


def latency(
    session: requests.Session, url: str, task: str, options: dict[str, Any], sentences: list[str]
) -> Iterator[Result]:
    """Median and 99th percentile of a call with one text, beside those of an empty page of the same server."""
    params = {"task": task, **options}
    pairs = [
        (
            seconds(lambda text=text: ask(session, url, [text], params)),
            seconds(lambda: session.get(f"{url}/ping").raise_for_status()),
        )
        for text in sentences
    ]
    median = from_pairs(f"latency_{task}_median", "GET /ping", pairs, 0, "ms")
    yield median
    ours, theirs = (1e3 * statistics.quantiles(side, n=100)[98] for side in zip(*pairs, strict=True))
    yield Result(f"latency_{task}_p99", "GET /ping", ours, theirs, "ms", theirs / ours, median.spread)


def ask(session: requests.Session, url: str, inputs: list[str], params: dict[str, Any] | None = None) -> list[Any]:
    """A request's answers, one a text."""
    answer = session.post(f"{url}/invocations", json={"inputs": inputs, "params": params or {}}, timeout=PATIENCE)
    answer.raise_for_status()
    return answer.json()["predictions"]


def log_champion(folder: Path, shape: ModelParams, vocabulary: Vocabulary) -> Path:
    """Make a model with random weights the champion of a new project in `folder`; returns where MLflow keeps it."""
    import mlflow

    for name in ("constraints.txt", "dvc.yaml", "params.yaml"):
        shutil.copy(name, folder)
    with chdir(folder):
        model = LanguageModel(shape, len(vocabulary), torch.Generator().manual_seed(1))
        save_model(SavedModel(model, vocabulary, TextRules(lowercase=True), {}), Path("model"))
        store = connect()
        run_id = store.client.create_run(store.experiment_id).info.run_id
        log_model(store, run_id, "lstm", Path("model"), step=0)
        store.tag(run_id, model_digest=model_digest(Path("model")))
        (logged,) = store.client.search_logged_models([store.experiment_id])
        version = mlflow.register_model(logged.model_uri, MODEL)
        store.set_alias(CHAMPION, str(version.version))
    return Path(logged.artifact_location.removeprefix("file://"))


@contextmanager
def champion_server(
    folder: Path, python: str = sys.executable, command: Literal["rnnlm", "mlflow"] = "rnnlm", **environment: str
) -> Iterator[str]:
    """The URL of `rnnlm serve` or `mlflow models serve` with the champion of the project in `folder`.

    Args:
        folder: holds mlflow.db, dvc.yaml and params.yaml.
        python: the interpreter whose environment serves.
        command: as docs/serving.md starts it.
        environment: variables of the server's process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    # `mlflow models serve` finds uvicorn on the path.
    kept["PATH"] = f"{Path(python).parent}{os.pathsep}{kept['PATH']}"
    kept |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if command == "rnnlm":
        words = [python, "-c", "from pipeline.cli import main; main()", "serve", "--port", str(port)]
        kept["PYTHONPATH"] = str(Path(pipeline.__file__).parents[1])
    else:
        # The project's code comes from the model.
        words = [str(Path(python).with_name("mlflow")), "models", "serve", "--env-manager", "local"]
        words += ["--host", "127.0.0.1", "--port", str(port), "--model-uri", f"models:/{MODEL}@{CHAMPION}"]
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=kept | environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, log)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # uvicorn is its child
            process.wait()


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            requests.get(f"{url}/ping", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


if __name__ == "__main__":
    run(rows)
