"""Where runs are kept, and how a store that fails is borne: MLflow mirrors the work, it never stops it."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

from pipeline.runtime.errors import InputError
from pipeline.runtime.locks import one_at_a_time
from pipeline.runtime.patience import ANSWER_LIMIT
from pipeline.runtime.settings import use_mlflow
from pipeline.runtime.urls import shown, told
from pipeline.tracking.relocation import (
    ARTIFACTS,
    clear_folder_as_written,
    database_file,
    database_uri,
    folder_beside,
    is_sqlite,
    moved_from,
)
from pipeline.tracking.run_tables import read_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

EXPERIMENT = MODEL = "rnnlm"  # in MLflow: the experiment of our runs, and the registered model
Alias = Literal["champion", "challenger"]
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
NOTE = "mlflow.note.content"  # the tag that MLflow shows as Markdown on a page
COMMIT = "mlflow.source.git.commit"  # the tag that it shows as the version of the code
LONGEST_NOTE = 5000  # characters that MLflow keeps
LARGEST_PAGE = 1000  # runs that MLflow returns, and points that it takes, at once
LOGINS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # MLflow's environment variables
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MADE_SECONDS = 120  # for which another process may be making the tables of a database
LONGEST_REASON = 240  # characters of MLflow's own message in ours
TRACKING_OFF = {"RNNLM_TRACKING": "off"}  # for the environment of a process
OTHER_EXPERIMENT = "RNNLM_EXPERIMENT"  # names the experiment of a process that is not about the project's own models

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """An open connection: MLflow's client, and the experiment that holds our runs.

    What MLflow, its database or its server raises passes through every method.
    """

    client: "MlflowClient"
    experiment_id: str

    def create_run(self, name: str, values: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Begin a run of the experiment, with `values` as its parameters; returns its id."""
        from mlflow.entities import Param

        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        self.client.log_batch(run, params=[Param(key, value) for key, value in values.items()])
        return run

    def run(self, run_id: str) -> "Run":
        """The run with this id."""
        return self.client.get_run(run_id)

    def find_status(self, run_id: str) -> str | None:
        """How far a run is, such as `RUNNING`; None where the store has none of this id."""
        from mlflow.exceptions import MlflowException

        try:
            return self.run(run_id).info.status
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    def runs(self, limit: int | None = None, query: str = "") -> "list[Run]":
        """The runs of the experiment, the newest first; at most `limit` of them.

        `query` is what they must match, in MLflow's search syntax, such as `tags.cell = 'lstm'`. Without one, datasets
        and models of the runs may be missing, see `read_runs`.
        """
        engine = getattr(self.client._tracking_client.store, "engine", None)  # none where a server has the database
        if engine is not None and not query:
            return read_runs(engine, self.experiment_id, limit)
        return _pages(
            lambda token: self.client.search_runs(
                [self.experiment_id],
                query,
                order_by=["attributes.start_time DESC"],
                max_results=min(limit or LARGEST_PAGE, LARGEST_PAGE),
                page_token=token,
            ),
            limit,
        )

    def newest_run(self, query: str) -> "Run | None":
        """The newest run that matches `query`, see `runs`."""
        return next(iter(self.runs(1, query)), None)

    def find_run(self, digest: str) -> "Run | None":
        """The newest run whose model has this digest."""
        return self.newest_run(f"tags.model_digest = '{digest}'")

    def tag(self, run_id: str, **tags: str) -> None:
        """Set tags of a run."""
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)

    def note(self, run_id: str, text: str) -> None:
        """Set the Markdown on a run's page."""
        self.client.set_tag(run_id, NOTE, fitting(text))

    def log_points(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """Add one point to each of a run's curves."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.log_metrics(run_id, [Metric(key, value, now, step) for key, value in values.items()])

    def log_metrics(self, run_id: str, metrics: "Sequence[Metric]") -> None:
        """Send any number of points to a run."""
        for start in range(0, len(metrics), LARGEST_PAGE):
            self.client.log_batch(run_id, metrics=metrics[start : start + LARGEST_PAGE])

    def read_file(self, run_id: str, path: str) -> bytes | None:
        """The content of one of a run's artifacts; None where it has no such file."""
        folder = str(PurePosixPath(path).parent)
        if path not in {item.path for item in self.client.list_artifacts(run_id, folder)}:
            return None
        with tempfile.TemporaryDirectory() as local:
            return Path(self.client.download_artifacts(run_id, path, local)).read_bytes()

    def aliases(self) -> dict[str, str]:
        """The version that each alias of the registered model names; empty where nothing is registered."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(MODEL).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {alias: str(version) for alias, version in found.items()}

    def set_alias(self, alias: Alias, version: str) -> None:
        """Give an alias to a version, and take it from the version that had it."""
        self.client.set_registered_model_alias(MODEL, alias, version)

    def version(self, number: str) -> "ModelVersion":
        """The version with this number."""
        return self.client.get_model_version(MODEL, number)

    def versions(self, query: str = "") -> "list[ModelVersion]":
        """The registered versions that match `query` (see `runs`), the oldest first.

        MLflow leaves their `aliases` empty, see `aliases`.
        """
        words = f"name = '{MODEL}'" + (f" and {query}" if query else "")
        found = _pages(lambda token: self.client.search_model_versions(words, page_token=token))
        return sorted(found, key=lambda version: int(version.version))

    def version_of(self, digest: str) -> "ModelVersion | None":
        """The version of the model with this digest."""
        return next(iter(self.versions(f"tags.model_digest = '{digest}'")), None)

    def tag_version(self, number: str, **tags: str) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(MODEL, number, key, value)


def is_off() -> bool:
    """Whether the user has switched tracking off with RNNLM_TRACKING=off."""
    return os.environ.get("RNNLM_TRACKING", "").lower() == "off"


def experiment_name() -> str:
    """The experiment that holds our runs: that of the project's own models, or the one that RNNLM_EXPERIMENT names."""
    return os.environ.get(OTHER_EXPERIMENT, "").strip() or EXPERIMENT


def keeps_versions() -> bool:
    """Whether evaluated models become versions of the registered model: only those of the project's own experiment."""
    return experiment_name() == EXPERIMENT


def is_shared() -> bool:
    """Whether others may use the store too: all but a database in a file of the project's folder."""
    beside = folder_beside(tracking_uri())
    return beside is None or beside.parent != project_root()


def project_root() -> Path:
    """The user's own project folder, absolute, also where `dvc exp run --temp` works in a copy that vanishes."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI without the blanks around it, or else the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or database_uri(project_root() / "mlflow.db")


def is_own() -> bool:
    """Whether the store is the user's own: a database in files of theirs, or a server on this machine."""
    uri = tracking_uri()
    artifacts = folder_beside(uri)
    if artifacts is None:
        return uri.startswith(("http:", "https:")) and urlsplit(uri).hostname in LOOPBACK
    # Whoever owns the folder can put another file in place.
    places = [artifacts.parent, artifacts, *artifacts.parent.glob("*.db")]
    return all(path.stat().st_uid == os.getuid() for path in places if path.exists())


def artifact_folder() -> Path:
    """Where runs keep their files: beside the SQLite file, or else in the project's folder."""
    return folder_beside(tracking_uri()) or project_root() / ARTIFACTS


def connect(moved: bool = False, name: str | None = None) -> Store:
    """Open the store; nothing is written, except that its experiment is made on first use.

    With `moved`, open it also where its artifacts are not where its database looks for them; with `name`, for another
    experiment than `experiment_name`.

    Raises:
        InputError: its artifacts are elsewhere, its experiment was deleted, or what is named is a folder or a file
            that is no database.
        Exception: whatever MLflow, its database or its server raises.
    """
    uri, name = tracking_uri(), name or experiment_name()
    use_mlflow(uri)
    from mlflow import MlflowClient
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(uri):
        raise InputError(
            f"MLFLOW_TRACKING_URI is {uri}, a folder, in which MLflow keeps no runs any more: name a database, such as "
            "sqlite:///mlflow.db, or a server; `mlflow migrate-filestore` brings its runs along"
        )
    database = database_file(uri)
    if database is not None and database.is_file() and not is_sqlite(database):
        raise InputError(f"MLFLOW_TRACKING_URI names {database}, which is not a SQLite database")
    clear_folder_as_written(uri)
    with _first_use(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"MLflow's experiment {name} was deleted; bring it back with "
            f"`MLFLOW_TRACKING_URI={shown(uri)} mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    if experiment is None:
        # A server knows where its artifacts go; a database would put them under whatever folder we happen to stand in.
        remote = uri.startswith(("http:", "https:"))
        location = None if remote else artifact_folder().as_uri()
        try:
            return Store(client, client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    before = None if moved else moved_from(uri, experiment.artifact_location)
    if before is not None:
        raise InputError(
            f"MLflow's database has moved with its artifacts but looks for them in {before}; run `rnnlm relocate`"
        )
    return Store(client, experiment.experiment_id)


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """One process at a time makes the tables of a database in a file: two would make the same ones, and both fail."""
    database = database_file(uri)
    if database is None:
        yield
        return
    lock = database.with_name(f"{database.name}.made")
    if database.exists() and not lock.exists():
        yield
        return
    taken = f"another process has been making {database} for {MADE_SECONDS} seconds; end it"
    with one_at_a_time(lock, taken, MADE_SECONDS):
        yield
        lock.unlink(missing_ok=True)


@contextmanager
def open_store(moved: bool = False) -> Iterator[Store]:
    """What `connect` opens, for a command that needs it: whatever fails there until the block ends is one clear line.

    Raises:
        InputError: tracking is off, the store has moved, or MLflow, its database or its server fails.
    """
    if is_off():
        raise InputError("this command needs MLflow, but RNNLM_TRACKING=off switches it off; unset it")
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    def failed(error: Exception) -> InputError:
        return InputError(f"MLflow failed ({_reason(error)}); is MLFLOW_TRACKING_URI right, and is its server up?")

    try:
        try:
            store = connect(moved)
        except (ImportError, ValueError) as error:  # a database's driver that is missing; a port that is no number
            raise failed(error) from None
        yield store
    except (MlflowException, RequestException, SQLAlchemyError, CommandError) as error:
        raise failed(error) from None


class BestEffort:
    """Calls the store; the first failure gives one warning on standard error, and from then on nothing is called."""

    def __init__(self, name: str | None = None) -> None:
        self.failed = False
        self._name = name  # of the experiment, as `connect` takes it
        self._store: Store | None = None

    def __call__(self, action: Callable[[Store], T]) -> T | None:
        """What `action` returns; None where it failed, or where tracking is off or has failed before."""
        if self.failed or is_off():
            return None
        try:
            if self._store is None:
                self._store = connect(name=self._name)
            return action(self._store)
        except Exception as error:  # whatever goes wrong in MLflow must not cost a night of training
            self.failed = True
            print(
                f"warning: nothing more goes to MLflow ({_reason(error)}); the work itself goes on. "
                "Once that is fixed, `rnnlm sync` adds what is missing there",
                file=sys.stderr,
                flush=True,
            )
            return None


def fitting(note: str) -> str:
    """`note`, cut at a line's end to the length that MLflow keeps."""
    return note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE + 1].rpartition("\n")[0][:LONGEST_NOTE]


def _pages(fetch: "Callable[[str | None], PagedList[T]]", limit: int | None = None) -> list[T]:
    """What `fetch` returns page by page, the first `limit` of it."""
    found: list[T] = []
    token = None
    while True:
        page = fetch(token)
        found += page
        token = page.token
        if not token or (limit is not None and len(found) >= limit):
            return found[:limit]


def _reason(error: Exception) -> str:
    """The error on one line, without the store's passwords."""
    if isinstance(error, InputError):
        return str(error)  # ours names what to do, at its end
    text = f"{type(error).__name__}: {told(error, tracking_uri(), *(os.environ.get(name, '') for name in LOGINS))}"
    # What happened stands at its beginning, and why, such as a time limit, at its end.
    half = LONGEST_REASON // 2
    text = text if len(text) <= LONGEST_REASON else f"{text[:half]}…{text[-half:]}"
    return f"{text}; {ANSWER_LIMIT} sets the limit" if _is_of_time(error) and ANSWER_LIMIT not in text else text


def _is_of_time(error: BaseException) -> bool:
    """Whether a server has not answered in time: what MLflow raises has the cause behind it, or in it."""
    from requests import Timeout
    from urllib3.exceptions import NewConnectionError, TimeoutError

    inner = (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
    causes = (item for item in inner if isinstance(item, BaseException))
    # urllib3 counts a connection that was refused among those that took too long.
    itself = isinstance(error, (Timeout, TimeoutError)) and not isinstance(error, NewConnectionError)
    return itself or any(map(_is_of_time, causes))
