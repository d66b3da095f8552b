"""What a person may call a model, the same in every command, and the run or the model that is meant."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.model.folder import SavedModel, load_model, model_digest
from pipeline.params import VERSION_NAME
from pipeline.review.listing import SHORT_ID
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODELS
from pipeline.tracking.logged_model import logged_model, read_model
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store, is_off, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORTEST_ID = 4  # characters of an abbreviated run id
NAMED_RUNS = 5  # runs that a message names
WAYS = (
    "a cell such as lstm, champion, challenger, a version such as v3, a run's id, the first characters of it or its "
    "name, or an address of MLflow's (models:/...)"
)


def find(store: Store, text: str) -> "Run":
    """The run of the model that `text` names: the first of `WAYS` that fits, versions before cells.

    A cell is the model that lies in data/models under this name.

    Raises:
        InputError: nothing fits, or several runs do.
    """
    if _is_version(text):
        return store.run(_run_of_version(store, text))
    if text.startswith("models:"):
        return store.run(logged_model(store, text, text).source_run_id or "")
    if _is_cell(text):
        run = store.find_run(model_digest(MODELS / text))
        if run is None:
            raise InputError(f"the model in {MODELS / text} has no run in MLflow; `rnnlm sync` makes it")
        return store.run(run.info.run_id)
    runs = store.runs()
    fitting = [run for run in runs if run.info.run_id == text] or [
        run
        for run in runs
        if run.info.run_name == text or (len(text) >= SHORTEST_ID and run.info.run_id.startswith(text))
    ]
    if len(fitting) == 1:
        return store.run(fitting[0].info.run_id)
    if not runs:
        raise InputError(f"no run fits {text!r}: there are none yet; `dvc repro` makes them")
    if not fitting:
        names = [str(run.info.run_name) for run in runs]
        raise InputError(f"no run fits {text!r}{_meant(text, names)}; give {WAYS}; `rnnlm runs` lists them")
    shown = ", ".join(map(named, fitting[:NAMED_RUNS]))
    more = ", ..." if len(fitting) > NAMED_RUNS else ""
    raise InputError(f"{text!r} fits {len(fitting)} runs: {shown}{more}; give more characters of its id")


def model_called(text: str, folder: Path) -> SavedModel:
    """The model that `text` names: what `find` takes, and where nothing of it lies here, the folder `folder`.

    Raises:
        InputError: as `find`, or the model's files are missing or damaged.
    """
    if not _is_version(text) and not text.startswith("models:"):
        if _is_cell(text):
            return load_model(MODELS / text)
        if folder.is_dir():
            return load_model(folder)
        if is_off():
            raise InputError(
                f"no model named {text!r} in {MODELS}{_meant(text)}, no such folder, and RNNLM_TRACKING is off"
            )
    with open_store() as store:
        return model_of_run(store, find(store, text))


def follower(alias: str) -> Callable[[], SavedModel | None]:
    """A function that returns the model that has an alias, and None as long as that is the one of the call before.

    It raises InputError as `find` and `model_of_run` do.
    """
    given: str | None = None

    def newer() -> SavedModel | None:
        nonlocal given
        with open_store() as store:
            number = store.aliases().get(alias)
            if number is not None and number == given:
                return None
            saved = model_of_run(store, find(store, alias if number is None else f"v{number}"))
        given = number
        return saved

    return newer


def model_of_run(store: Store, run: "Run") -> SavedModel:
    """The model that a run has logged.

    Raises:
        InputError: it has none, or its files are missing or were changed.
    """
    models = run.outputs.model_outputs if run.outputs else []
    if not models or "model_digest" not in run.data.tags:
        raise InputError(f"run {named(run)} has no model: its training did not finish; name another run")
    return read_model(store, f"models:/{models[-1].model_id}", f"run {named(run)}")


def named(run: "Run") -> str:
    """A run as messages name it."""
    return f"{run.info.run_id[:SHORT_ID]} ({run.info.run_name})"


def _meant(text: str, names: Iterable[str] = ()) -> str:
    """A question about a name that is nearly one of the models that lie here, of the aliases and of `names`."""
    here = [path.name for path in MODELS.iterdir()] if MODELS.is_dir() else []
    near = get_close_matches(text, [*here, CHAMPION, CHALLENGER, *names])
    return f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""


def _is_version(text: str) -> bool:
    return VERSION_NAME.fullmatch(text) is not None


def _is_cell(text: str) -> bool:
    return Path(text).parts == (text,) and text != ".." and (MODELS / text).is_dir()


def _run_of_version(store: Store, text: str) -> str:
    number = store.aliases().get(text) if text in (CHAMPION, CHALLENGER) else str(int(text[1:]))
    if number is None:
        raise InputError(f"there is no {text} yet; `rnnlm promote` makes the best model of the pipeline the champion")
    known = {str(version.version): version.run_id for version in store.versions()}
    if run_id := known.get(number):
        return run_id
    there = ", ".join(f"v{version}" for version in known) or "none"
    raise InputError(f"the registered model {MODEL} has no version {number}; there are: {there}")
