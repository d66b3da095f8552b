"""Bringing MLflow up to what lies in data/: runs that DVC restored, or that MLflow missed."""

from pipeline.model.folder import model_digest
from pipeline.params import load_params, read_params
from pipeline.provenance.dvc import read_lock
from pipeline.runtime.paths import EVALUATION, MODELS
from pipeline.tracking.runs import add_evaluation, add_report, trained_run
from pipeline.tracking.store import Store


def sync(store: Store) -> list[str]:
    """Make or complete the run of every model that dvc.lock vouches for; what is there already stays as it is.

    Returns:
        A line for each model of the cells of params.yaml, on what was done.

    Raises:
        InputError: params.yaml or dvc.lock cannot be read.
        Exception: whatever MLflow, its database or its server raises.
    """
    params, written, locked = load_params(), read_params(), read_lock()

    def stands(stage: str) -> bool:
        return stage in locked and locked[stage].stands(written)

    lines = []
    for name in params.cells:
        if not (stands("tokenize") and stands(f"train@{name}")):
            lines.append(f"{name}: no model of these parameters and this text; run `dvc repro` first")
            continue
        is_evaluated = stands(f"evaluate@{name}")
        for cell in params.cell(name).each_seed:
            known = store.find_run(model_digest(MODELS / cell.folder)) is not None
            run = trained_run(store, params, cell)
            # The evaluation may be of fewer seeds.
            added = is_evaluated and (EVALUATION / cell.folder).exists() and add_evaluation(store, params, cell)
            done = "up to date" if known and not added else "evaluation added" if known else "run made"
            lines.append(f"{name}: {done} ({store.run(run.info.run_id).info.run_name})")
    if stands("report"):
        add_report(store, list(params.cells))
    return lines
