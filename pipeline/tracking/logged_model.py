"""A trained model as an MLflow model: code, weights, vocabulary and requirements, and no pickle."""

import json
import tempfile
from pathlib import Path

import pipeline
from pipeline.inference.request import Options
from pipeline.runtime.files import write_text
from pipeline.runtime.pins import canonical, read_constraints
from pipeline.tracking.store import Store

# What the code that is served imports, and no more; each at the version that the project is pinned to.
REQUIREMENTS = ("mlflow", "nltk", "numpy", "pandas", "pydantic", "regex", "safetensors", "torch")
# Of this and the type hints of `predict`, MLflow makes the signature; the parameters become the defaults of requests.
EXAMPLE = (["What aren't you understanding about this?!"], Options().model_dump())


def log_model(
    connection: Store, run_id: str, name: str, model_folder: Path, vocabulary: Path, lowercase: bool, step: int
) -> None:
    """Log a model into a run, which ends FINISHED.

    Args:
        connection: an open store.
        run_id: the run that trained it.
        name: what MLflow's list of models calls it.
        model_folder: what `save_model` wrote.
        vocabulary: the vocabulary it was trained with, data/vocabulary.tsv.
        lowercase: whether its tokens are lower-cased.
        step: the epoch whose weights were kept; MLflow copies the run's metrics of that step onto the model.
    """
    import mlflow

    pins = read_constraints(Path("constraints.txt"))
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.json"
        write_text(text, json.dumps({"lowercase": lowercase}) + "\n")
        mlflow.set_experiment(experiment_id=connection.experiment_id)
        with mlflow.start_run(run_id=run_id, log_system_metrics=False):
            mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(pipeline.__file__).parent / "inference" / "serving.py"),
                artifacts={
                    "model": str(model_folder.resolve()),
                    "vocabulary": str(vocabulary.resolve()),
                    "text": str(text),
                },
                input_example=EXAMPLE,
                pip_requirements=[f"{package}=={pins[canonical(package)]}" for package in REQUIREMENTS],
                code_paths=[str(Path(pipeline.__file__).parent)],
                step=step,
            )
