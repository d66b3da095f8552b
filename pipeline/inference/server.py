"""A model over HTTP: MLflow's scoring server, in this process and behind limits, with this project's own code.

A model in MLflow brings the code that it was logged with, which `mlflow models serve` runs. Here only its data is used.
"""

import tempfile
from pathlib import Path

import numpy as np

from pipeline.inference.limits import Limited
from pipeline.inference.request import EXAMPLE
from pipeline.inference.word_types import UNKNOWN_TYPES_FILE
from pipeline.model.folder import SavedModel, save_model
from pipeline.runtime import web
from pipeline.runtime.settings import use_mlflow
from pipeline.runtime.stopping import stopped_by_signals
from pipeline.text.tokenizer import Tokenizer

SERVE_LOG = Path(".rnnlm/serve.log")


def serve(saved: SavedModel, port: int, unknown_types: np.ndarray | None) -> None:
    """Serve a model on the loopback interface until Ctrl-C, SIGTERM or SIGHUP.

    `unknown_types` are those of the corpus, see word_types.py; without them `over_types` is refused.

    Raises:
        InputError: the port is taken.
    """
    with stopped_by_signals(), web.listen(port, "rnnlm serve") as listener:
        app = application(saved, unknown_types)
        print(f"Serving on http://{web.HOST}:{port}/invocations\nPress Ctrl-C to stop.", flush=True)
        web.serve(app, listener, SERVE_LOG)


def application(saved: SavedModel, unknown_types: np.ndarray | None) -> Limited:
    """MLflow's scoring server with the model, behind the limits."""
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
    tokenizer = Tokenizer(**saved.text.model_dump())
    return Limited(scoring_server.init(loaded), lambda texts: [tokenizer.tokenize(text) for text in texts])
