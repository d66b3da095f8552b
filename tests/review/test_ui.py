"""`rnnlm ui`: what it serves, how it ends, and what a person sees in a real browser."""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from pipeline.params import load_params
from pipeline.review.ui import COLUMNS, HOST, VIEW_TAG, keep_view, run_list_address, serve
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.store import MODEL, connect
from tests.conftest import PROJECT
from tests.projects import HISTORY, Project, load_params_file

if TYPE_CHECKING:
    from playwright.sync_api import Page

CELLS = ("rnn", "lstm", "gru")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120_000  # milliseconds for a text to appear, on a busy machine


def test_the_address_names_a_view_that_lies_in_the_store(project: Project) -> None:
    store = connect()
    keep_view(store)
    address = run_list_address("http://127.0.0.1:5000/", store.experiment_id)
    (key,) = re.findall(r"viewStateShareKey=(\w+)", address)
    view = json.loads(store.client.get_experiment(store.experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert VIEW_TAG.endswith(key)
    assert view["selectedColumns"] == list(COLUMNS)
    assert address.startswith(f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs?")


def test_the_columns_are_what_runs_have(project: Project) -> None:
    listener = TrainingRun(project.params, project.cell.name, len(project.vocabulary), Path("run"))
    listener.started(123, 14, resumed=False)
    listener.finished(9.0)
    runs.log_evaluation(project.params, project.cell.name)
    (run,) = connect().client.search_runs([connect().experiment_id])
    known = {"metrics": run.data.metrics, "params": run.data.params, "tags": run.data.tags | {"git_dirty": ""}}
    for column in COLUMNS:
        kind, _, name = column.partition(".")
        assert kind == "attributes" or name.strip("`") in known[kind]


def test_of_a_server_only_the_address_is_told_and_no_password(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = connect()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p@ssw0rd@example.org/mlflow/?token=abcd")
    serve(store, 1, browse=True)
    expected = run_list_address("https://example.org/mlflow", store.experiment_id)
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_server_that_does_not_start_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InputError, match=r"did not start; \.rnnlm/mlflow-ui\.log says why"):
        serve(connect(), free_port(), browse=False)


def test_pages_are_served_until_ctrl_c_and_no_process_is_left(project: Project) -> None:
    port = free_port()
    with serving(project, port) as ui:
        assert ui.stdout
        store = connect()
        assert ui.stdout.readline() == f"Open {run_list_address(f'http://{HOST}:{port}', store.experiment_id)}\n"
        assert ui.stdout.readline() == "Press Ctrl-C to stop.\n"
        assert b"MLflow" in read(port, "/")
        experiment = json.loads(read(port, f"/api/2.0/mlflow/experiments/get?experiment_id={store.experiment_id}"))
        assert VIEW_TAG in {tag["key"] for tag in experiment["experiment"]["tags"]}
        with pytest.raises(InputError, match=f"port {port} is taken; choose another: rnnlm ui --port {port + 1}"):
            serve(store, port, browse=False)
        processes = psutil.Process(ui.pid).children(recursive=True)
        assert processes
        # The secret of a database's address would stand there for all users of the machine.
        assert not any("mlflow.db" in word for process in processes for word in process.cmdline())
        ui.send_signal(signal.SIGINT)
        assert ui.communicate() == ("", "SIGINT: ending\n")
        assert ui.returncode == 0
        assert psutil.wait_procs(processes, timeout=20)[1] == []


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        return unused.getsockname()[1]


def read(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=60) as answer:
        return answer.read()


@contextmanager
def serving(project: Project, port: int) -> Iterator[subprocess.Popen[str]]:
    """`rnnlm ui` as a user starts it."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "ui", "--port", str(port), "--no-browser"]
    pipe = subprocess.PIPE
    ui = subprocess.Popen(
        command,
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=pipe,
        stderr=pipe,
        text=True,
        # Where the tests themselves run in the background, their children would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield ui
    finally:
        if ui.poll() is None:
            ui.terminate()
            ui.communicate()


@pytest.fixture
def three_cells(project: Project) -> Project:
    """Three trained and evaluated cells, and a report of them."""
    content = load_params_file()
    content["cells"] = {cell: {"cell": cell} for cell in CELLS}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    for cell in CELLS:
        made = dataclasses.replace(project, cell=load_params().cell(cell))
        listener = TrainingRun(made.params, made.cell.name, len(made.vocabulary), Path("run"))
        listener.started(123, 14, resumed=False)
        for record in HISTORY:
            listener.epoch_ended(record, 2.0, 7.0)
        made.train()
        listener.finished(9.0)
        made.evaluation.mkdir(parents=True, exist_ok=True)
        made.evaluate()
        runs.log_evaluation(made.params, made.cell.name)
    runs.log_report(CELLS)
    return project


@pytest.fixture
def address(three_cells: Project) -> Iterator[str]:
    """What `rnnlm ui` says to open."""
    with serving(three_cells, free_port()) as ui:
        assert ui.stdout
        yield ui.stdout.readline().removeprefix("Open ").strip()


@pytest.fixture
def page() -> "Iterator[Page]":
    playwright = pytest.importorskip("playwright.sync_api", reason="a browser needs playwright")
    if CHROMIUM is None:
        pytest.skip("a browser needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2000, "height": 1200})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.mark.slow
def test_what_a_person_sees(page: "Page", address: str) -> None:
    store = connect()
    experiment = address.partition("?")[0].removesuffix("/runs")

    def sees(*texts: str) -> None:
        for text in texts:
            page.get_by_text(text, exact=True).first.wait_for()

    page.goto(address)
    sees(*(f"{cell}, 4 units, 2 epochs" for cell in CELLS))
    sees("test/perplexity", "valid/best_perplexity", "model.hidden_size", "train.epochs", "Duration", "Version")

    page.get_by_text("gru, 4 units, 2 epochs", exact=True).first.click()
    sees("Description", "test/perplexity", "model.hidden_size", "Datasets")
    page.get_by_text(re.compile(r"95% interval 5.00 to 7.00")).first.wait_for()

    run = next(run for run in store.client.search_runs([store.experiment_id]) if run.data.tags["cell"] == "gru")
    page.goto(f"{experiment}/runs/{run.info.run_id}/artifacts/report/report.html")
    page.frame_locator("iframe").get_by_role("heading", name="Models").wait_for()

    page.goto(f"{address}&compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("valid/perplexity")
    sees("valid/perplexity", *(f"{cell}, 4 units, 2 epochs (valid/perplexity)" for cell in CELLS))
    # An epoch is a step for every cell.
    sees("Step", "1", "2")

    (model,) = run.outputs.model_outputs if run.outputs else []
    page.goto(f"{experiment}/models/{model.model_id}")
    sees("Description", "test/perplexity")
    (version,) = store.versions("tags.cell = 'gru'")
    page.goto(f"{address.partition('#')[0]}#/models/{MODEL}/versions/{version.version}")
    sees("Schema", "Inputs (1)", "Outputs (1)")
