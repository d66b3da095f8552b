"""A training as a run in MLflow: begun while it trains, completed when its model is there, or made from its files."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.model.language_model import WEIGHTS_FILE, model_digest
from pipeline.params import CellParams, load_params
from pipeline.provenance.dvc import dvc_digest
from pipeline.provenance.environment import machine_params
from pipeline.runtime.hashes import fingerprint
from pipeline.text.encoded import load_split
from pipeline.tracking.logged_model import log_model
from pipeline.tracking.pages import (
    cell_params,
    changes_note,
    epoch_metrics,
    run_name,
    training_note,
    warm_start_note,
)
from pipeline.tracking.record import code_tags, lock_is_current, record_outputs, record_restored, record_training
from pipeline.tracking.store import Store
from pipeline.training.history import EpochRecord, best_epoch, read_history
from pipeline.training.warm_start import first_weights_of

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

ENCODED = Path("data/encoded")
VOCABULARY = Path("data/vocabulary.tsv")


def create_run(
    store: Store, cell: CellParams, vocabulary_size: int, parameter_count: int, restored: bool = False
) -> str:
    """Begin the run of a training, with parameters, tags and dataset; returns its id.

    Args:
        store: an open store.
        cell: what is trained.
        vocabulary_size: C.
        parameter_count: numbers that training changes.
        restored: the training was not seen: this machine may not be the one that trained.
    """
    from mlflow.entities import Param

    # A model from DVC's cache is explained by the commit of today only if that is the code and data that made it.
    this_code = not restored or lock_is_current(cell.name)
    begun_with = first_weights_of(cell.model)
    tags = (code_tags() if this_code else {}) | {
        "mlflow.source.name": f"dvc repro train@{cell.name}",
        "mlflow.source.type": "LOCAL",
        "cell": cell.name,
        "cell_type": cell.model.cell,
        "corpus": _corpus(),
        "training_inputs": _training_inputs(cell, vocabulary_size, begun_with),
    }
    params = cell_params(cell, vocabulary_size) | {"model.parameters": str(parameter_count), "data.corpus": _corpus()}
    if begun_with:
        tags["warm_start"] = begun_with
    if restored:
        tags["restored"] = "true"
    else:
        params |= machine_params() | {"machine.precision": _precision(cell)}
    run = store.client.create_run(store.experiment_id, run_name=run_name(cell, cell.train.epochs), tags=tags)
    store.client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in params.items()])
    store.client.log_inputs(run.info.run_id, [dataset("train", "training")])
    if restored:
        record_restored(store, run.info.run_id, cell.name, this_code)
    else:
        record_training(store, run.info.run_id, cell.name)
    return run.info.run_id


def resume_run(store: Store, run_id: str) -> set[int]:
    """Mark a run that broke off as running again; returns the epochs that it has."""
    store.client.update_run(run_id, status="RUNNING")
    return {point.step for point in store.client.get_metric_history(run_id, "valid/perplexity")}


def complete_run(store: Store, run_id: str, cell: CellParams, folder: Path) -> None:
    """Bring a run up to what `folder` holds: missing epochs, model, note; mark it with the model's digest and end it.

    Args:
        store: an open store.
        run_id: a run of `create_run`; what it already holds is not logged twice.
        cell: what was trained.
        folder: holds model.safetensors, config.json and history.csv.
    """
    history = read_history(folder / "history.csv")
    best = best_epoch(history)
    logged = {point.step for point in store.client.get_metric_history(run_id, "valid/perplexity")}
    for record in history:
        if record.epoch not in logged:
            store.log_points(run_id, epoch_metrics(record), record.epoch)
    # A single value stands at step 0, where MLflow draws it as a bar.
    store.log_points(run_id, {"valid/best_perplexity": best.valid_perplexity}, 0)
    store.client.update_run(run_id, name=run_name(cell, len(history)))
    tags = store.run(run_id).data.tags
    store.note(run_id, _note(cell, folder, history, tags))
    record_outputs(store, run_id, "train", cell.name)
    log_model(store, run_id, cell.name, folder, VOCABULARY, load_params().tokenize.lowercase, best.epoch)
    # Last, so that a run that bears a digest is whole.
    store.tag(run_id, model_digest=model_digest(folder))


def trained_run(store: Store, cell: CellParams, folder: Path) -> "Run":
    """The run of the model in `folder`; where there is none, the one that broke off is completed, or one made."""
    run = store.find_run(model_digest(folder))
    if run is None:
        vocabulary_size = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocabulary_size"])
        inputs = _training_inputs(cell, vocabulary_size, first_weights_of(cell.model))
        broken_off = store.newest_run(f"tags.training_inputs = '{inputs}' and attributes.status != 'FINISHED'")
        run_id = (
            broken_off.info.run_id
            if broken_off
            else create_run(store, cell, vocabulary_size, parameter_count(folder), restored=True)
        )
        complete_run(store, run_id, cell, folder)
        run = store.run(run_id)
    return run


def training_text(cell: CellParams, folder: Path, tags: Mapping[str, str]) -> str:
    """What the page of a run with these tags says of the training."""
    return _note(cell, folder, read_history(folder / "history.csv"), tags)


def dataset(split: str, context: str) -> "DatasetInput":
    """A split of the encoded corpus as MLflow's dataset; its digest is the one that DVC has in dvc.lock.

    Args:
        split: train, valid or test.
        context: what it is used for, such as `training`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    folder = ENCODED / split
    encoded = load_split(folder)
    return DatasetInput(
        Dataset(
            name=f"{_corpus()}, {split}",
            digest=dvc_digest(folder),
            source_type="local",
            source=json.dumps({"uri": folder.as_posix()}),
            profile=json.dumps({"sentences": len(encoded), "tokens": encoded.tokens}),
        ),
        [InputTag("mlflow.data.context", context)],
    )


def parameter_count(folder: Path) -> int:
    """Numbers that training changed in a saved model, read from the head of its file."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS_FILE, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _precision(cell: CellParams) -> str:
    """What `auto` came to on this machine."""
    import torch

    from pipeline.model.output import uses_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if uses_bf16(cell.train.precision, device) else "fp32"


def _training_inputs(cell: CellParams, vocabulary_size: int, begun_with: str | None) -> str:
    """What decides a training's result, as one short hash: a run that broke off is found by it."""
    return fingerprint(
        {
            "params": cell_params(cell, vocabulary_size),
            **{split: dvc_digest(ENCODED / split) for split in ("train", "valid")},
            **({"warm_start": begun_with} if begun_with else {}),
        }
    )


def _note(cell: CellParams, folder: Path, history: Sequence[EpochRecord], tags: Mapping[str, str]) -> str:
    return training_note(cell, parameter_count(folder), history) + warm_start_note(tags) + changes_note(tags)


def _corpus() -> str:
    """The corpus's name: its source, or the file or folder it comes from."""
    download = load_params().download
    # A URL's query may hold a token.
    return download.source if download.source != "files" else PurePosixPath(download.path.partition("?")[0]).name
