"""MLflow's web pages for this project's runs, served on this machine only."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.stopping import await_child, child, raise_if_stopped, stopped_by_signals
from pipeline.runtime.urls import shown
from pipeline.tracking.store import Store, artifact_folder, tracking_uri

HOST = "127.0.0.1"
START_SECONDS = 120  # MLflow needs about 6 on an idle machine
LOG = Path(".rnnlm/mlflow-ui.log")
# A view of the list of runs, stored in a tag of the experiment as MLflow's Share button does; without it, the list has
# neither figures nor parameters. Name, date and duration are always shown.
VIEW = "rnnlm"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
COLUMNS = (
    "metrics.`test/perplexity`",
    "metrics.`valid/best_perplexity`",
    "params.`model.hidden_size`",
    "params.`train.epochs`",
    "tags.`cell`",
    "tags.`corpus`",
    "tags.`git_dirty`",
    "attributes.`Version`",  # the git commit
)


def run_list_address(server: str, experiment_id: str) -> str:
    """The address of the list of runs, in the view of `keep_view`; MLflow's front page shows other things first."""
    runs = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{runs}?workflowType=machine_learning&viewStateShareKey={VIEW}"


def keep_view(store: Store) -> None:
    """Store the view of the list: the columns that matter, the newest run first."""
    text = json.dumps({"selectedColumns": COLUMNS, "orderByKey": "attributes.start_time", "orderByAsc": False})
    if store.client.get_experiment(store.experiment_id).tags.get(VIEW_TAG) != text:
        store.client.set_experiment_tag(store.experiment_id, VIEW_TAG, text)


def serve(store: Store, port: int, browse: bool) -> None:
    """Serve the pages until Ctrl-C, SIGTERM or SIGHUP; if the store is a server itself, only print its address.

    The port is on the loopback interface; with `browse`, a browser is opened too, if there is a screen.

    Raises:
        InputError: the port is taken, or MLflow does not start.
    """
    keep_view(store)
    if tracking_uri().startswith(("http:", "https:")):
        # The URI may have a password in it; the browser asks for it.
        print(run_list_address(shown(tracking_uri()), store.experiment_id), flush=True)
        return
    _check_free(port)
    with suppress(StoppedError), stopped_by_signals(), _server(port) as server:
        _wait_until_ready(server, port)
        address = run_list_address(f"http://{HOST}:{port}", store.experiment_id)
        print(f"Open {address}\nPress Ctrl-C to stop.", flush=True)
        # Without a screen, a browser would take over the terminal.
        screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
        if browse and screen:
            webbrowser.open(address)
        await_child(server)
        raise_if_stopped("so do the pages")
        raise InputError(f"MLflow's server exited; {LOG} says why")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise InputError(f"port {port} is taken; choose another: rnnlm ui --port {port + 1}") from None


@contextmanager
def _server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        # Not on the command line, which every user of the machine can read: it may have a password in it.
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_ARTIFACTS_DESTINATION": artifact_folder().as_uri(),
        # The job queue is eight more processes, for features that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    with LOG.open("wb") as log, child(command, env=environment, stdout=log, stderr=log) as server:
        yield server


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise_if_stopped("the pages were not served yet")
    raise InputError(f"MLflow's server did not start; {LOG} says why")
