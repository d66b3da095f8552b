"""The registered model `rnnlm`: a version of it for each model that was evaluated, and the names that versions have.

`challenger` is the version that is best on the validation split of the last run of the pipeline; `champion` the one in
use. Which version gets one of them is decided in pipeline/review/.
"""

import contextlib
import io
from typing import TYPE_CHECKING

from pipeline.tracking.store import MODEL, Store, fitting, keeps_versions

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ABOUT = (
    "Recurrent language models, a version for each that was evaluated. `challenger` is the best of the last run of the "
    "pipeline on its validation split, `champion` the one in use; `rnnlm promote` and `rnnlm rollback` move it."
)
DECISIONS = "\n\n### Decisions\n\n"  # on a version's page, between its headline and what became of it


def register(store: Store, run_id: str) -> bool:
    """Make the model of an evaluated run a version, and bring its figures up to date; says whether it is a new one.

    A model is registered once, however often it is trained to the same bytes; one of another experiment never.
    """
    if not keeps_versions():
        return False
    run = store.run(run_id)
    version = store.version_of(run.data.tags["model_digest"])
    made = version is None
    version = version or _create(store, run)
    # Trained again to the same bytes, it stays the model of the run that it was registered from.
    tags = _tags(run) | {"run_id": version.run_id or run.info.run_id}
    changed = {key: value for key, value in tags.items() if version.tags.get(key) != value}
    store.tag_version(str(version.version), **changed)
    _, heading, decisions = (version.description or "").partition(DECISIONS)
    _describe(store, version, _headline(run) + heading + decisions)
    return made


def note_decision(store: Store, number: str, line: str) -> None:
    """Put a decision, Markdown with its date, on a version's page above earlier ones; the latest is not said twice."""
    version = store.version(number)
    headline, _, earlier = (version.description or "").partition(DECISIONS)
    if not earlier.startswith(f"- {line}\n"):
        _describe(store, version, f"{headline}{DECISIONS}- {line}\n{earlier}")


def _create(store: Store, run: "Run") -> "ModelVersion":
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(MODEL, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    models = run.outputs.model_outputs if run.outputs else []
    # It logs verbosely to standard error.
    with contextlib.redirect_stderr(io.StringIO()):
        version = mlflow.register_model(f"models:/{models[-1].model_id}", MODEL, tags=_tags(run))
    # Another process may have registered the same model meanwhile: the older version stays, and both see which that is.
    first = store.version_of(run.data.tags["model_digest"])
    if first is not None and first.version != version.version:
        store.client.delete_model_version(MODEL, str(version.version))
        return first
    return version


def _tags(run: "Run") -> dict[str, str]:
    metrics = run.data.metrics
    figures = {
        "test_perplexity": metrics["test/perplexity"],
        # None where there was too little text for an interval.
        "test_perplexity_low": metrics.get("test_interval/perplexity_low"),
        "test_perplexity_high": metrics.get("test_interval/perplexity_high"),
        "test_accuracy_top1": metrics["test/accuracy_top1"],
        "valid_perplexity": metrics["valid/best_perplexity"],
    }
    return {
        "model_digest": run.data.tags["model_digest"],
        "cell": run.data.tags["cell"],
        "run_id": run.info.run_id,
        **{key: f"{value:.6g}" for key, value in figures.items() if value is not None},
    }


def _headline(run: "Run") -> str:
    metrics = run.data.metrics
    low, high = (metrics.get(f"test_interval/perplexity_{end}") for end in ("low", "high"))
    interval = "no interval" if low is None or high is None else f"95% interval {low:.2f} to {high:.2f}"
    return (
        # No stars: MLflow's list of versions shows its first words as they stand.
        f"{run.info.run_name}: test perplexity {metrics['test/perplexity']:.2f} ({interval}), "
        f"validation perplexity {metrics['valid/best_perplexity']:.2f}."
    )


def _describe(store: Store, version: "ModelVersion", text: str) -> None:
    text = fitting(text)
    if text != version.description:
        store.client.update_model_version(MODEL, str(version.version), text)
