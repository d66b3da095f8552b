"""What a person sees: `rnnlm ui` in a real browser."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from pipeline.params import load_params
from pipeline.review.ui import COLUMNS, VIEW_TAG, keep_view, run_list_address
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
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "ui", "--port", str(port), "--no-browser"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    server = subprocess.Popen(command, cwd=three_cells.folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield server.stdout.readline().removeprefix("Open ").strip()
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture
def page() -> "Iterator[Page]":
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
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
