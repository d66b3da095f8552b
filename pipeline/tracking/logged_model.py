"""A trained model as an MLflow model: its folder, the code that serves it and its requirements, and no pickle."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import pipeline
from pipeline.inference.request import EXAMPLE
from pipeline.inference.scoring import unknown_types_of
from pipeline.inference.word_types import UNKNOWN_TYPES_FILE
from pipeline.model.folder import SavedModel, TextRules, load_model, model_digest, read_config, write_config
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import TOKENS, VOCABULARY_FILE
from pipeline.runtime.pins import canonical, read_constraints
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

# What the code that is served imports, and no more; each at the version that the project is pinned to.
REQUIREMENTS = ("mlflow", "nltk", "numpy", "pandas", "pydantic", "regex", "safetensors", "torch", "urllib3")
ABSENT = (  # of a model that cannot be read
    "MLflow does not have the files of this model; if the name is right (`rnnlm runs` lists versions), put them back, "
    "or bring the model back (`dvc checkout`) and run `rnnlm sync`"
)
FILES_DIGEST = "files_digest"  # the tag of a logged model that says which files were logged


def log_model(store: Store, run_id: str, name: str, folder: Path, step: int) -> None:
    """Log the model in `folder` into the run that trained it, which ends FINISHED.

    MLflow's list of models calls it `name`. `step` is the epoch whose weights were kept: MLflow copies the metrics of
    that step onto the model.

    Raises:
        InputError: a file of the model is missing or damaged.
    """
    import mlflow

    vocabulary = load_model(folder).vocabulary  # half a model would be noticed by whoever is served
    pins = read_constraints(Path("constraints.txt"))
    code = Path(pipeline.__file__).parent
    mlflow.set_experiment(experiment_id=store.experiment_id)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run_id, log_system_metrics=False):
        artifacts = {"model": folder.resolve()}
        if TOKENS.is_file():  # the server takes the words of the corpus from nowhere else
            artifacts["unknown_types"] = Path(scratch) / UNKNOWN_TYPES_FILE
            np.save(artifacts["unknown_types"], unknown_types_of(TOKENS, vocabulary))
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(code / "inference" / "serving.py"),
            # MLflow takes a path for an address, `%41` for A.
            artifacts={key: path.as_uri() for key, path in artifacts.items()},
            input_example=EXAMPLE,
            pip_requirements=[f"{package}=={pins[canonical(package)]}" for package in REQUIREMENTS],
            code_paths=[str(code)],
            step=step,
        )
        with _downloaded(logged.model_id) as root:
            store.client.set_logged_model_tags(logged.model_id, {FILES_DIGEST: _files_digest(root)})


def read_model(store: Store, uri: str, called: str) -> SavedModel:
    """A model that was logged: its data, once all files are checked. None of the code beside them is run.

    Args:
        uri: as MLflow has it: `models:/rnnlm@champion`, `models:/rnnlm/3`, `models:/m-...`.
        called: what errors call it.

    Raises:
        InputError: MLflow does not have it, or its files are not those that were logged.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    entry = logged_model(store, uri, called)
    try:
        with _downloaded(entry.model_id) as root:
            artifacts = Model.load(root).flavors["python_function"]["artifacts"]
            files = {name: root / kept["path"] for name, kept in artifacts.items()}
            intact = model_digest(files["model"]) == store.run(entry.source_run_id or "").data.tags["model_digest"]
            # Versions before this one did not record it; what is read of their files, `model_digest` covers.
            intact = intact and entry.tags.get(FILES_DIGEST) in (None, _files_digest(root))
            if intact and "vocabulary" in files:
                _complete(files["model"], files["vocabulary"], files["text"])
            if intact:
                return load_model(files["model"])
    except (MlflowException, FileNotFoundError, NotADirectoryError, KeyError, ValueError, InputError):
        raise InputError(f"{called}: {ABSENT}") from None
    raise InputError(f"{called}: MLflow's files of its model are not those that were logged")


def logged_model(store: Store, uri: str, called: str) -> "LoggedModel":
    """MLflow's entry of a model; arguments as of `read_model`.

    Raises:
        InputError: MLflow does not have it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    try:
        name, *version = get_model_name_and_version(store.client, uri)
        source = store.client.get_model_version(str(name), *version).source if version else uri
        return store.client.get_logged_model(str(source).removeprefix("models:/"))
    except (MlflowException, ValueError):
        raise InputError(f"{called}: {ABSENT}") from None


@contextmanager
def _downloaded(model_id: str) -> Iterator[Path]:
    """A copy of a logged model's folder, which nobody changes between a check and its use."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        yield Path(download_artifacts(artifact_uri=f"models:/{model_id}", dst_path=folder))


def _files_digest(root: Path) -> str:
    """SHA-256, in hex, of the names and bytes of all files of a logged model, its code included.

    What Python compiled while somebody served the model is left out.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _complete(model: Path, vocabulary: Path, text: Path) -> None:
    """Make a whole folder of `model`, as commit 726b98c logged it: beside its vocabulary and its text rules."""
    shutil.copyfile(vocabulary, model / VOCABULARY_FILE)
    rules = TextRules.model_validate_json(text.read_text(encoding="utf-8"))
    write_config(read_config(model).model_copy(update={"text": rules, "train": {}}), model)
