"""Where runs are kept, and how a store that fails is borne: MLflow mirrors the work, it never stops it."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.runtime.errors import InputError
from pipeline.tracking.relocation import FOLDER, folder_beside, relocate

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "rnnlm"
# Set before mlflow is imported, unless the user has set them. By default a dead server blocks every call for minutes.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LONGEST_REASON = 240  # characters of MLflow's own message in ours

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """An open connection: MLflow's client and the experiment that holds our runs."""

    client: "MlflowClient"
    experiment_id: str


def is_off() -> bool:
    """Whether the user has switched tracking off with RNNLM_TRACKING=off."""
    return os.environ.get("RNNLM_TRACKING", "").lower() == "off"


def project_root() -> Path:
    """The user's own project folder, absolute, also where `dvc exp run --temp` works in a copy that vanishes."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or else the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"


def artifact_folder() -> Path:
    """Where runs keep their files: beside the SQLite file, or else in the project's folder."""
    return folder_beside(tracking_uri()) or project_root() / FOLDER


def connect() -> Store:
    """Open the store, make the experiment on first use, and bring addresses up to date where the store has moved.

    Raises:
        Exception: whatever MLflow, its database or its server raises.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    _be_quiet()
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    # Set for the whole process too: logging a model finds the store that way.
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        relocate(uri, experiment.artifact_location)
    else:
        # A server knows where its artifacts go; a database would put them under whatever folder we happen to stand in.
        remote = uri.startswith(("http:", "https:"))
        location = None if remote else artifact_folder().as_uri()
        try:
            return Store(client, client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:
            # Another process was faster.
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    return Store(client, experiment.experiment_id)


@contextmanager
def open_store() -> Iterator[Store]:
    """The store, for a command that is nothing without it: whatever fails there until the block ends is one clear line.

    Raises:
        InputError: tracking is off, or MLflow, its database or its server fails.
    """
    if is_off():
        raise InputError("this command needs MLflow, but RNNLM_TRACKING=off switches it off; unset it")
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield connect()
    except (MlflowException, RequestException, SQLAlchemyError, CommandError) as error:
        raise InputError(
            f"MLflow does not do what this needs ({_reason(error)}); is MLFLOW_TRACKING_URI right, and its server up?"
        ) from None


class BestEffort:
    """Calls the store; the first failure gives one warning on standard error, and from then on nothing is called."""

    def __init__(self) -> None:
        self.failed = False
        self._store: Store | None = None

    def __call__(self, action: Callable[[Store], T]) -> T | None:
        """What `action` returns; None where it failed, or where tracking is off or has failed before."""
        if self.failed or is_off():
            return None
        try:
            if self._store is None:
                self._store = connect()
            return action(self._store)
        except Exception as error:  # whatever goes wrong in MLflow must not cost a night of training
            self.failed = True
            print(
                f"warning: nothing more goes to MLflow ({_reason(error)}); the work itself goes on. "
                "Once that is mended, `rnnlm sync` brings the runs there",
                file=sys.stderr,
                flush=True,
            )
            return None


def without_secrets(text: str) -> str:
    """`text` without what may be secret in the URLs it holds: a login, a query with a token."""
    return re.sub(r"(://[^\s\"?]*)\?[^\s\"]*", r"\1", re.sub(r"//[^/@\s\"]*@", "//", text))


def _reason(error: Exception) -> str:
    """The error on one line, without passwords that stand in addresses."""
    text = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def _be_quiet() -> None:
    """What MLflow and its parts say of themselves (tables made, requests tried again) is no concern of the user."""
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
