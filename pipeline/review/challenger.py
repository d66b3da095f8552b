"""Which version is the challenger: the best model of the last run of the pipeline, on the validation split."""

from collections.abc import Sequence

from pipeline.model.folder import model_digest
from pipeline.params import load_params, read_params
from pipeline.provenance.dvc import read_lock
from pipeline.runtime.paths import MODELS
from pipeline.tracking.store import CHALLENGER, BestEffort, Store, is_shared, keeps_versions
from pipeline.tracking.sync import sync
from pipeline.training.history import best_cell


def bring_up_to_date(store: Store) -> list[str]:
    """As `sync`, and where the report of these models lies there, the best of them becomes the challenger.

    Returns:
        A line for each cell, and one where the best model may not be the challenger.

    Raises:
        InputError: params.yaml or dvc.lock cannot be read.
        Exception: whatever MLflow, its database or its server raises.
    """
    lines = sync(store)
    report = read_lock().get("report")
    if report and report.stands(read_params()):
        lines += make_challenger(store, list(load_params().cells))
    return lines


def log_challenger(cells: Sequence[str]) -> None:
    """As `make_challenger`; if MLflow fails, there is one warning and no error."""
    for line in BestEffort()(lambda store: make_challenger(store, cells)) or ():
        print(line)


def make_challenger(store: Store, cells: Sequence[str]) -> list[str]:
    """Give the alias `challenger` to the best model of data/, if it is registered.

    In a store that others use too, a model has to come from a commit: nobody else could make the other ones again.

    Returns:
        A line on why it does not get it; usually none.
    """
    if not keeps_versions():
        return []  # the project may have the same model, and another as its best
    cell = best_cell(MODELS, cells)
    version = store.version_of(model_digest(MODELS / cell))
    if version is None or store.aliases().get(CHALLENGER) == str(version.version):
        return []
    if is_shared() and store.run(str(version.tags["run_id"])).data.tags.get("git_dirty") != "false":
        return [f"{cell}: not made challenger, as others use this store and no commit has what it was made from"]
    store.set_alias(CHALLENGER, str(version.version))
    return []
