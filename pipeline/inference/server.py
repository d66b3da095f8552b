"""A model over HTTP: MLflow's scoring server, in this process and behind limits, with this project's own code.

A model in MLflow brings the code that it was logged with, which `mlflow models serve` runs. Here only its data is used.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.inference.limits import Limited
from pipeline.inference.predictor import tokens_of_texts
from pipeline.inference.request import EXAMPLE
from pipeline.inference.word_types import UNKNOWN_TYPES_FILE
from pipeline.model.folder import SavedModel, save_model
from pipeline.runtime import web
from pipeline.runtime.errors import one_line
from pipeline.runtime.settings import use_mlflow
from pipeline.runtime.stopping import stopped_by_signals
from pipeline.runtime.urls import without_secrets
from pipeline.runtime.web import App, Message, Receive, Send
from pipeline.text.tokenizer import Tokenizer

SERVE_LOG = Path(".rnnlm/serve.log")
FOLLOWED_SECONDS = 20.0  # between two looks at which model is to be served

# A model, and the word types of the corpus that it does not know (word_types.py); without them `over_types` is refused.
Content = tuple[SavedModel, np.ndarray | None]
Newer = Callable[[], Content | None]


def serve(content: Content, port: int, newer: Newer = lambda: None) -> None:
    """Serve a model on the loopback interface until Ctrl-C, SIGTERM or SIGHUP.

    Args:
        content: the model.
        port: on the loopback interface.
        newer: asked every `FOLLOWED_SECONDS`; a model that it returns is served from then on.

    Raises:
        InputError: the port is taken.
    """
    with stopped_by_signals(), web.listen(port, "rnnlm serve") as listener:
        app = Replaceable(application(*content))
        print(f"Serving on http://{web.HOST}:{port}/invocations\nPress Ctrl-C to stop.", flush=True)
        with following(app, newer):
            web.serve(app, listener, SERVE_LOG)


class Replaceable:
    """An application in whose place another can be put: each request is answered by the one that it came to."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self.app(scope, receive, send)


@contextmanager
def following(served: Replaceable, newer: Newer) -> Iterator[None]:
    """Until the block ends, put each model that `newer` returns in the place of the one before, once it is loaded.

    Where `newer` fails, there is one warning, and the model of before is served on.
    """
    over = threading.Event()

    def follow() -> None:
        told = ""
        while not over.wait(FOLLOWED_SECONDS):
            try:
                if content := newer():
                    served.app = application(*content)
                    print("Serving another model now.", flush=True)
                told = ""
            except Exception as error:  # whatever fails in the store, clients are answered
                reason = without_secrets(one_line(error) or type(error).__name__)
                if reason != told:
                    print(f"warning: the model of before is served on: {reason}", file=sys.stderr, flush=True)
                told = reason

    follower = threading.Thread(target=follow, name="follow", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def application(saved: SavedModel, unknown_types: np.ndarray | None) -> Limited:
    """MLflow's scoring server with the model, behind the limits."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")  # MLflow sets the variable, too
    with tempfile.TemporaryDirectory() as folder:
        use_mlflow(Path(folder).as_uri())  # nothing goes there
        import mlflow
        from mlflow.pyfunc import scoring_server

        save_model(saved, Path(folder) / "model")
        artifacts = {"model": (Path(folder) / "model").as_uri()}
        if unknown_types is not None:
            np.save(Path(folder) / UNKNOWN_TYPES_FILE, unknown_types)
            artifacts["unknown_types"] = (Path(folder) / UNKNOWN_TYPES_FILE).as_uri()
        made = Path(folder) / "mlflow"
        mlflow.pyfunc.save_model(
            str(made),
            python_model=str(Path(__file__).with_name("serving.py")),
            artifacts=artifacts,
            input_example=EXAMPLE,
            pip_requirements=[],
        )
        loaded = mlflow.pyfunc.load_model(str(made))
    use_mlflow(store)
    # Not those of a Predictor, which would hold the model a second time.
    tokens = partial(tokens_of_texts, Tokenizer(**saved.text.model_dump()))
    return Limited(scoring_server.init(loaded), tokens)
