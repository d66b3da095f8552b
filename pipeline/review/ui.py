"""MLflow's web pages for this project's runs, for the user who started them and nobody else.

MLflow's server asks nobody for a password, and its pages can change what the store holds. So all of them lie below a
path that is drawn anew at each start and that only the printed address has. A cookie would do less: a browser sends it
to every port of this machine, whoever listens there.
"""

import hmac
import html
import json
import os
import secrets
import sys
import tempfile
import warnings
import webbrowser
from pathlib import Path

from pipeline.runtime import web
from pipeline.runtime.stopping import stopped_by_signals
from pipeline.runtime.urls import shown
from pipeline.runtime.web import HOST, App, Message, Receive, Send
from pipeline.tracking.store import Store, artifact_folder, tracking_uri

UI_LOG = Path(".rnnlm/mlflow-ui.log")
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

    Args:
        store: where the runs are.
        port: on the loopback interface.
        browse: open a browser too, if there is a screen.

    Raises:
        InputError: the port is taken.
    """
    keep_view(store)
    if tracking_uri().startswith(("http:", "https:")):
        # The URI may have a password in it; the browser asks for it.
        print(run_list_address(shown(tracking_uri()), store.experiment_id), flush=True)
        return
    secret = secrets.token_urlsafe(32)
    with stopped_by_signals(), web.listen(port, "rnnlm ui") as listener:
        pages = _pages(port)
        address = run_list_address(f"http://{HOST}:{port}/{secret}", store.experiment_id)
        print(f"Open {address}\nPress Ctrl-C to stop.", flush=True)
        UI_LOG.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=UI_LOG.parent, prefix="ui-", suffix=".html") as redirection:
            # Without a screen, a browser would take over the terminal.
            screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
            if browse and screen:
                # A browser's command line can be read by every user of the machine, this file by its owner only.
                redirection.write(f'<meta http-equiv="refresh" content="0;url={html.escape(address)}">')
                redirection.flush()
                webbrowser.open(Path(redirection.name).absolute().as_uri())
            web.serve(BelowSecretPath(pages, secret), listener, UI_LOG)


class BelowSecretPath:
    """`app` with all its addresses below the path `/SECRET`; any other request is answered with status 403."""

    def __init__(self, app: App, secret: str) -> None:
        self._app, self._prefix = app, f"/{secret}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        # As it was sent: nothing that is encoded or has dots in it leads to the secret.
        raw: bytes = scope["raw_path"]
        prefix = self._prefix.encode()
        if hmac.compare_digest(raw[: len(prefix) + 1], prefix + b"/"):
            path = {"path": scope["path"].removeprefix(self._prefix), "raw_path": raw.removeprefix(prefix)}
            await self._app({**scope, **path}, receive, _without_referrer(send))
            return
        text = b"Open the address that `rnnlm ui` printed: it has a secret that this one lacks.\n"
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": text})


def _without_referrer(send: Send) -> Send:
    """Browsers are told to name the address to no other site."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"referrer-policy", b"no-referrer")]
        await send(message)

    return sent


def _pages(port: int) -> App:
    """MLflow's server as an application in this process, which reads its settings from the environment.

    Its proxy for artifacts stays off, through which files of a store could be written: pages read them in their folder.
    """
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": tracking_uri(),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifact_folder().as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
        # Exactly these: MLflow's own patterns, such as 10.*, admit names such as 10.evil.example.
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
        # The job queue is eight more processes, for features that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with warnings.catch_warnings(action="ignore"):  # of MLflow's own use of Starlette
        from mlflow.server.fastapi_app import app

        return app
