"""`rnnlm ui`: what it serves, how it ends, and what a person sees in a real browser."""

import dataclasses
import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import requests
import yaml

from pipeline.evaluation import page_frame as report_page
from pipeline.evaluation.figures import SURPRISE
from pipeline.params import load_params
from pipeline.review.ui import COLUMNS, VIEW_TAG, keep_view, run_list_address, serve
from pipeline.runtime import web
from pipeline.runtime.errors import InputError
from pipeline.runtime.web import HOST
from pipeline.tracking import runs
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.store import MODEL, connect
from tests.conftest import PROJECT
from tests.projects import HISTORY, Project, load_params_file

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CELLS = ("rnn", "lstm", "gru")
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
    listener = TrainingRun(project.params, project.cell, len(project.vocabulary), Path("run"))
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


@pytest.mark.slow
def test_pages_are_served_until_ctrl_c_by_one_process_on_one_port(project: Project) -> None:
    port = free_port()
    with serving(project, port) as ui:
        address = opened(ui)
        store = connect()
        assert address.endswith(run_list_address("", store.experiment_id))
        assert ui.stdout
        assert ui.stdout.readline() == "Press Ctrl-C to stop.\n"
        assert "MLflow" in requests.get(address, timeout=60).text
        # A web page can let its own name lead to this machine; it does not know the secret, and is refused anyway.
        for host in ("10.evil.example", "192.168.evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil"):
            assert requests.get(address, headers={"Host": host}, timeout=60).status_code == 403, host
        experiment = get(address, "api/2.0/mlflow/experiments/get", experiment_id=store.experiment_id).json()
        assert VIEW_TAG in {tag["key"] for tag in experiment["experiment"]["tags"]}
        with pytest.raises(InputError, match=f"port {port} is taken; choose another: rnnlm ui --port {port + 1}"):
            serve(store, port, browse=False)
        process = psutil.Process(ui.pid)
        assert process.children(recursive=True) == []
        listening = [line.laddr for line in process.net_connections("all") if line.status == psutil.CONN_LISTEN]
        assert listening == [(HOST, port)]
        # What stands there can be read by all users of the machine.
        assert not any("mlflow.db" in word or secret_of(address) in word for word in process.cmdline())
        ui.send_signal(signal.SIGINT)
        assert ui.communicate() == ("", "SIGINT: ending\n")
        assert ui.returncode == 0
        assert list(Path(".rnnlm").glob("ui-*")) == []


@pytest.mark.slow
def test_nobody_else_is_let_in(project: Project, tmp_path: Path) -> None:
    """Every way in answers 403 to a user of the machine who has not seen the address, and writes nothing."""
    if os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("curl"):
        pytest.skip("becoming another user needs root, setpriv and curl")
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (model,) = store.client.search_logged_models([store.experiment_id])
    code = Path(model.artifact_location.removeprefix("file://")) / "code" / "pipeline" / "__init__.py"
    inside = code.relative_to(Path("mlruns").resolve())
    (run,) = store.runs()
    kept = {path: path.read_bytes() for path in Path("mlruns").rglob("*") if path.is_file()}
    port = free_port()
    with serving(project, port, end=signal.SIGHUP) as ui:
        address = opened(ui)
        get(address, "health")  # it runs
        secret = secret_of(address)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        paths = [
            "",
            "health",
            "version",
            f"api/2.0/mlflow-artifacts/artifacts/{inside}",
            f"ajax-api/2.0/mlflow-artifacts/artifacts/{inside}",
            f"ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.info.run_id}&path=x.txt",
            f"get-artifact?run_uuid={run.info.run_id}&path=report/index.html",
            "api/2.0/mlflow/runs/search",
            "ajax-api/3.0/mlflow/assistant/config",
            "graphql",
            "static-files/favicon.ico",
            secret[:-1] + "/health",
            "x/../" + secret[:-1] + "x/health",
        ]
        for path in paths:
            for method in ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"):
                curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "-X", method]
                body = ["-d", "import os"] if method in ("PUT", "POST") else ["-m", "20"] + ["-I"] * (method == "HEAD")
                done = subprocess.run(
                    [*become, *curl, *body, f"http://{HOST}:{port}/{path}"], capture_output=True, text=True, cwd="/"
                )
                assert done.stdout == "403", (method, path, done.stderr)
        # Nothing that another user can read has the secret.
        for file in ("environ", "cmdline", "mem"):
            look = [*become, "cat", f"/proc/{ui.pid}/{file}"]
            done = subprocess.run(look, capture_output=True, cwd="/")
            assert secret.encode() not in done.stdout
        assert not any(secret in path.read_text() for path in Path(".rnnlm").rglob("*") if path.is_file())
        # The owner has all pages, but nobody the proxy through which artifacts could be written.
        assert get(address, "get-artifact", run_uuid=run.info.run_id, path="evaluation/samples.txt").status_code == 200
        found = get(address, "ajax-api/2.0/mlflow/artifacts/list", run_id=run.info.run_id).json()
        assert "evaluation" in {file["path"] for file in found["files"]}
        for folder in ("api", "ajax-api"):
            there = f"{base_of(address)}/{folder}/2.0/mlflow-artifacts/artifacts/{inside}"
            assert requests.put(there, data=b"import os", timeout=60).status_code == 503
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_browser_is_given_a_file_that_only_its_owner_can_read(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line of a browser can be read by every user of the machine."""
    seen = []

    def open_browser(address: str) -> None:
        path = Path(address.removeprefix("file://"))
        seen.append((path.stat().st_mode & 0o777, path.read_text()))

    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr(webbrowser, "open", open_browser)
    monkeypatch.setattr(web, "serve", lambda app, listener, log: None)
    serve(connect(), free_port(), browse=True)
    address = capsys.readouterr().out.partition("\n")[0].removeprefix("Open ")
    ((mode, page),) = seen
    assert mode == 0o600
    assert html.escape(address) in page


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        return unused.getsockname()[1]


def opened(ui: "subprocess.Popen[str]") -> str:
    """The address that `rnnlm ui` prints."""
    assert ui.stdout
    return ui.stdout.readline().removeprefix("Open ").strip()


def base_of(address: str) -> str:
    return address.partition("/#/")[0]


def secret_of(address: str) -> str:
    return base_of(address).rpartition("/")[2]


def get(address: str, path: str, /, **params: str) -> requests.Response:
    answer = requests.get(f"{base_of(address)}/{path}", params, timeout=60)
    answer.raise_for_status()
    return answer


@contextmanager
def serving(project: Project, port: int, end: signal.Signals = signal.SIGTERM) -> Iterator[subprocess.Popen[str]]:
    """`rnnlm ui` as a user starts it, until the signal `end`."""
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
            ui.send_signal(end)
            assert ui.communicate()[1] == f"{end.name}: ending\n"
            assert ui.returncode == 0


@pytest.fixture
def three_cells(project: Project) -> Project:
    """Three trained and evaluated cells, and a report of them."""
    content = load_params_file()
    content["cells"] = {cell: {"cell": cell} for cell in CELLS}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    for cell in CELLS:
        made = dataclasses.replace(project, cell=load_params().cell(cell))
        listener = TrainingRun(made.params, made.cell, len(made.vocabulary), Path("run"))
        listener.started(123, 14, resumed=False)
        for record in HISTORY:
            listener.epoch_ended(record, 2.0, 7.0)
        made.train()
        listener.finished(9.0)
        made.evaluation.mkdir(parents=True, exist_ok=True)
        made.evaluate()
        runs.log_evaluation(made.params, made.cell.name)
    styles = [{"name": cell, "colour": "#0072B2", "shape": "circle", "seeds": []} for cell in CELLS]
    points = [{"model": cell, "epoch": 1, "tokens": 9, "perplexity": 5.75, "kept": True} for cell in CELLS]
    shown = report_page.page("Models", [], {"curves": points, "styles": styles}, SURPRISE)
    Path("data/report", report_page.PAGE_FILE).write_text(shown)
    runs.log_report(CELLS)
    return project


@pytest.fixture
def address(three_cells: Project) -> Iterator[str]:
    """What `rnnlm ui` says to open."""
    with serving(three_cells, free_port()) as ui:
        yield opened(ui)


@pytest.fixture
def page(browser: "Browser") -> "Page":
    page = browser.new_page(viewport={"width": 2000, "height": 1200})
    page.set_default_timeout(PATIENCE)
    return page


@pytest.mark.slow
def test_what_a_person_sees(page: "Page", address: str) -> None:
    store = connect()
    experiment = address.partition("?")[0].removesuffix("/runs")

    def sees(*texts: str) -> None:
        for text in texts:
            page.get_by_text(text, exact=True).first.wait_for()

    page.goto(address)
    sees(*(f"{cell}, 4 units, 2 epochs, installed-docs, seed 1" for cell in CELLS))
    sees("test/perplexity", "valid/best_perplexity", "model.hidden_size", "train.epochs", "Duration", "Version")

    page.get_by_text("gru, 4 units, 2 epochs, installed-docs, seed 1", exact=True).first.click()
    sees("Description", "test/perplexity", "model.hidden_size", "Datasets")
    page.get_by_text(re.compile(r"95% interval .*: 5.00 to 7.00")).first.wait_for()

    run = next(run for run in store.client.search_runs([store.experiment_id]) if run.data.tags["cell"] == "gru")
    page.goto(f"{experiment}/runs/{run.info.run_id}/artifacts/report/index.html")
    # In MLflow's frame, which has no origin of its own, the page's scripts draw it all the same.
    frame = page.frame_locator("iframe")
    frame.locator("#curves-chart svg").wait_for()
    frame.get_by_role("button", name="Zoom in").click()
    frame.locator("#curves-chart[data-share='0.5']").wait_for()
    frame.get_by_text(run.info.run_id).wait_for()

    page.goto(f"{address}&compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("valid/perplexity")
    sees(
        "valid/perplexity", *(f"{cell}, 4 units, 2 epochs, installed-docs, seed 1 (valid/perplexity)" for cell in CELLS)
    )
    # An epoch is a step for every cell.
    sees("Step", "1", "2")

    (model,) = run.outputs.model_outputs if run.outputs else []
    page.goto(f"{experiment}/models/{model.model_id}")
    sees("Description", "test/perplexity")
    (version,) = store.versions("tags.cell = 'gru'")
    page.goto(f"{address.partition('#')[0]}#/models/{MODEL}/versions/{version.version}")
    sees("Schema", "Inputs (1)", "Outputs (1)")
