"""A trained model as an MLflow model: its folder, the code that serves it and its requirements, and no pickle."""

import shutil
import tempfile
from pathlib import Path

import pipeline
from pipeline.inference.request import Options
from pipeline.model.folder import SavedModel, TextRules, load_model, model_digest, read_config, write_config
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import VOCABULARY_FILE
from pipeline.runtime.pins import canonical, read_constraints
from pipeline.tracking.store import Store

# What the code that is served imports, and no more; each at the version that the project is pinned to.
REQUIREMENTS = ("mlflow", "nltk", "numpy", "pandas", "pydantic", "regex", "safetensors", "torch")
# Of this and the type hints of `predict`, MLflow makes the signature; the parameters become the defaults of requests.
EXAMPLE = (["What aren't you understanding about this?!"], Options().model_dump())


def log_model(store: Store, run_id: str, name: str, folder: Path, step: int) -> None:
    """Log the model in `folder` into the run that trained it, which ends FINISHED.

    MLflow's list of models calls it `name`. `step` is the epoch whose weights were kept: MLflow copies the metrics of
    that step onto the model.

    Raises:
        InputError: a file of the model is missing or damaged.
    """
    import mlflow

    load_model(folder)  # half a model would be noticed by whoever is served
    pins = read_constraints(Path("constraints.txt"))
    code = Path(pipeline.__file__).parent
    mlflow.set_experiment(experiment_id=store.experiment_id)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        mlflow.pyfunc.log_model(
            name=name,
            python_model=str(code / "inference" / "serving.py"),
            artifacts={"model": str(folder.resolve())},
            input_example=EXAMPLE,
            pip_requirements=[f"{package}=={pins[canonical(package)]}" for package in REQUIREMENTS],
            code_paths=[str(code)],
            step=step,
        )


def read_model(store: Store, uri: str, called: str) -> SavedModel:
    """A model that was logged, by its `uri`: `models:/rnnlm@champion`, `models:/rnnlm/3`, `models:/m-...`.

    Errors call it `called`.

    Raises:
        InputError: MLflow does not have it, or its files are not those that were trained.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as folder:
        try:
            root = Path(download_artifacts(artifact_uri=uri, dst_path=folder))
            logged = Model.load(root)
            files = {name: root / kept["path"] for name, kept in logged.flavors["python_function"]["artifacts"].items()}
            digest = store.run(logged.run_id or "").data.tags["model_digest"]
            intact = model_digest(files["model"]) == digest
            if intact and "vocabulary" in files:
                _complete(**files)
        except (MlflowException, FileNotFoundError, NotADirectoryError, KeyError, ValueError, InputError):
            raise InputError(
                f"{called}: MLflow does not have the files of this model; if the name is right (`rnnlm runs` lists "
                "versions), put them back, or bring the model back (`dvc checkout`) and run `rnnlm sync`"
            ) from None
        if not intact:
            raise InputError(f"{called}: MLflow's files of its model are not those that were trained")
        return load_model(files["model"])


def _complete(model: Path, vocabulary: Path, text: Path) -> None:
    """Make a whole folder of `model`, as commit 726b98c logged it: beside its vocabulary and its text rules."""
    shutil.copyfile(vocabulary, model / VOCABULARY_FILE)
    rules = TextRules.model_validate_json(text.read_text(encoding="utf-8"))
    write_config(read_config(model).model_copy(update={"text": rules, "train": {}}), model)
