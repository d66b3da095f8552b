"""A model's run in MLflow, from its start to its report: made, completed, evaluated, reported.

A run is tied to its model by the SHA-256 of the model's files (tag `model_digest`), so a model that DVC restored finds
its run again, and no output contains a random id.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline.evaluation.page_frame import PAGE_FILE, told_of
from pipeline.evaluation.results import read_metrics
from pipeline.model.folder import model_digest, read_config
from pipeline.model.output import uses_bf16
from pipeline.params import CellParams, Params
from pipeline.provenance.dvc import digest_if_there, dvc_digest
from pipeline.provenance.environment import machine_params
from pipeline.runtime.hashes import fingerprint
from pipeline.runtime.paths import ENCODED, EVALUATION, MODELS, PINS, REPORT, WEIGHTS_FILE
from pipeline.runtime.remarks import read_remarks
from pipeline.text.encoded import load_split
from pipeline.tracking import pages
from pipeline.tracking.logged_model import log_model
from pipeline.tracking.record import code_tags, lock_is_current, record_outputs, record_restored, record_training
from pipeline.tracking.registry import register
from pipeline.tracking.store import NOTE, BestEffort, Store, fitting
from pipeline.training.automatic import left_open, told
from pipeline.training.first_weights import first_weights_of
from pipeline.training.history import HISTORY_FILE, best_cell, best_epoch, read_history
from pipeline.training.params import TrainParams, TrainSettings
from pipeline.training.trainer import chosen_device

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

REMOVED = "model_removed"  # a tag of runs: the digest of the model whose files `rnnlm gc` freed
BEGUN_WITH = "warm_start"  # a tag of runs: the digest of the model whose weights training began with
SEED_GROUP = "seed_group"  # a tag of runs: equal for all seeds of a recipe
MODEL_FOLDER = "folder"  # a tag of runs: where in data/models its model lay, such as lstm/seeds/2
TRAINING = "training"  # what a run's dataset was used for
SAMPLES = "samples.txt"
REPORT_PAGE = f"report/{PAGE_FILE}"  # among a run's artifacts


def log_evaluation(params: Params, name: str) -> None:
    """Add what the stage `evaluate` left to the runs of its models; one is made, marked `restored`, if there is none.

    The first seed's model becomes a version of the registered model. If MLflow fails, there is one warning and no
    error, as in `log_report` and during a training run.
    """

    def add(store: Store) -> None:
        for cell in params.cell(name).each_seed:
            add_evaluation(store, params, cell)

    BestEffort()(add)


def log_report(names: Sequence[str]) -> None:
    """Add the report to the runs of the models it compares, and put its table on the experiment's page."""
    BestEffort()(lambda store: add_report(store, names))


def create_run(
    store: Store, params: Params, cell: CellParams, vocabulary_size: int, parameter_count: int, restored: bool = False
) -> str:
    """Begin the run of a training run of a cell's seed, with parameters, tags and dataset; returns its id.

    If it is `restored`, MLflow did not see the training run, and this machine may not be the one that trained.
    """
    name, corpus = cell.name, pages.corpus_name(params.download.source, params.download.path)
    # Today's commit explains a model from DVC's cache only if that is the code and data that made it.
    this_code = not restored or lock_is_current(name)
    tags = (code_tags() if this_code else {}) | {
        "mlflow.source.name": f"dvc repro train@{name}",
        "mlflow.source.type": "LOCAL",
        "cell": name,
        MODEL_FOLDER: cell.folder.as_posix(),
        "cell_type": cell.model.cell,
        "corpus": corpus,
        "training_inputs": _training_inputs(cell, vocabulary_size),
        SEED_GROUP: _training_inputs(cell, vocabulary_size, of_all_seeds=True),
        "request": uuid4().hex,
    }
    values = pages.cell_params(cell, vocabulary_size)
    values |= {"model.parameters": str(parameter_count), "data.corpus": corpus}
    begun_with = first_weights_of(cell.model, context=cell.train.context)
    if begun_with:
        tags[BEGUN_WITH] = begun_with
    if restored:
        tags["restored"] = "true"
    else:
        values |= machine_params() | {"machine.precision": _precision(cell.train)}
    if named := told(params.cell(name).train, cell.train):
        tags[pages.AUTO] = named
    title = pages.run_name(cell, cell.train.epochs, corpus)
    run_id = store.create_run(title, values, tags)
    _delete_twins(store, run_id, tags)
    store.client.log_inputs(run_id, [_dataset(corpus, "train", TRAINING)])
    if restored:
        record_restored(store, run_id, cell, this_code)
    else:
        record_training(store, run_id, name)
    return run_id


def _delete_twins(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Delete the other runs that were made for the same request.

    MLflow's client asks again where an answer did not arrive, and its server then makes a second run.
    """
    for twin in store.runs(query=f"tags.request = '{tags.get('request', '')}'"):
        if twin.info.run_id != run_id:
            store.client.delete_run(twin.info.run_id)


def epochs_of(store: Store, run_id: str) -> set[int]:
    """The epochs whose points a run has."""
    return {point.step for point in store.client.get_metric_history(run_id, "valid/perplexity")}


def complete_run(store: Store, run_id: str, cell: CellParams) -> None:
    """Bring a run up to what the folder of its model holds: missing epochs, model, note, digest; and end it."""
    folder = MODELS / cell.folder
    history, logged = read_history(folder / HISTORY_FILE), epochs_of(store, run_id)
    best = best_epoch(history)
    for record in history:
        if record.epoch not in logged:
            store.log_points(run_id, pages.epoch_metrics(record), record.epoch)
    # MLflow draws a single value, at step 0, as a bar.
    store.log_points(run_id, {"valid/best_perplexity": best.valid_perplexity}, 0)
    tags = store.run(run_id).data.tags
    store.client.update_run(run_id, name=pages.run_name(cell, len(history), tags["corpus"]))
    store.note(run_id, pages.training_note(run_id, cell, _parameter_count(folder), history, tags, read_remarks()))
    record_outputs(store, run_id, "train", cell)
    log_model(store, run_id, cell.name, folder, best.epoch)
    # Last, so that a run that has a digest is whole.
    store.tag(run_id, model_digest=model_digest(folder))


def trained_run(store: Store, params: Params, cell: CellParams) -> "Run":
    """The run of the model of a cell's seed; if there is none, an interrupted one is completed, or one is made."""
    folder = MODELS / cell.folder
    cell = _as_trained(cell)
    run = store.find_run(model_digest(folder))
    if run is None:
        size = read_config(folder).vocabulary_size
        inputs = _training_inputs(cell, size)
        begun = store.newest_run(f"tags.training_inputs = '{inputs}' and attributes.status != 'FINISHED'")
        if begun:
            run_id = begun.info.run_id
            _delete_twins(store, run_id, begun.data.tags)
        else:
            run_id = create_run(store, params, cell, size, _parameter_count(folder), restored=True)
        complete_run(store, run_id, cell)
        run = store.run(run_id)
    return run


def _as_trained(cell: CellParams) -> CellParams:
    """The cell with the numbers that its model was trained with, where params.yaml says `auto`."""
    known = read_config(MODELS / cell.folder).train or {}
    numbers = {key: known[key] for key in left_open(cell.train) if key in known}
    return replace(cell, train=cell.train.model_copy(update=numbers))


def add_evaluation(store: Store, params: Params, cell: CellParams) -> bool:
    """As `log_evaluation`, of one seed, but raises what MLflow raises; returns whether anything was missing."""
    from mlflow.entities import Metric

    run, folder = trained_run(store, params, cell), EVALUATION / cell.folder
    run_id, digest = run.info.run_id, _digest(folder)
    if run.data.tags.get("evaluation_digest") == digest:
        return cell.first and register(store, run_id)
    measured = read_metrics(folder / "metrics.json")
    test = _dataset(pages.corpus_name(params.download.source, params.download.path), "test", "evaluation")
    store.client.log_inputs(run_id, [test])
    models = [output.model_id for output in run.outputs.model_outputs] if run.outputs else []
    about = {
        "model_id": models[-1] if models else None,
        "dataset_name": test.dataset.name,
        "dataset_digest": test.dataset.digest,
        "run_id": run_id,
    }
    now = int(time.time() * 1000)
    points = pages.evaluation_metrics(measured).items()
    # MLflow appends: an evaluation that ran again would draw every point twice.
    new = [Metric(key, value, now, 0, **about) for key, value in points if run.data.metrics.get(key) != value]
    store.log_metrics(run_id, new)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        store.client.log_artifact(run_id, str(path), "evaluation")
    record_outputs(store, run_id, "evaluate", cell)
    model_folder, written = MODELS / cell.folder, folder / SAMPLES
    history = read_history(model_folder / HISTORY_FILE)
    training = pages.training_note(run_id, cell, _parameter_count(model_folder), history, run.data.tags, read_remarks())
    samples = written.read_text(encoding="utf-8").splitlines() if written.exists() else []  # only the first writes
    note = pages.evaluation_note(training, measured, samples)
    store.note(run_id, note)
    for model in models:
        tags = {NOTE: fitting(note), "cell": cell.name, "cell_type": cell.model.cell}
        store.client.set_logged_model_tags(model, tags)
    store.tag(run_id, evaluation_digest=digest)
    if cell.first:
        register(store, run_id)
    return True


def add_report(store: Store, names: Sequence[str]) -> bool:
    """As `log_report`, but raises what MLflow raises; returns whether anything was missing."""
    digest, changed = _digest(REPORT), False
    for name in names:
        run = store.find_run(model_digest(MODELS / name))
        if run is None or run.data.tags.get("report_digest") == digest:
            continue
        changed = True
        store.client.log_artifacts(run.info.run_id, str(REPORT), "report")
        if (REPORT / PAGE_FILE).exists():  # an earlier version made none
            page = told_of((REPORT / PAGE_FILE).read_text(encoding="utf-8"), pages.about_run(run))
            store.client.log_text(run.info.run_id, page, REPORT_PAGE)
        note = run.data.tags.get(NOTE, "")
        link = _report_address(store, run)
        if link not in note:
            store.note(run.info.run_id, pages.with_report(note, link))
        store.tag(run.info.run_id, report_digest=digest)
    if changed:
        # The report up to its first chapter: what was measured, the table, the verdicts.
        table = (REPORT / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
        run = store.find_run(model_digest(MODELS / best_cell(MODELS, names)))
        note = pages.with_report(table, _report_address(store, run)) if run else table
        store.client.set_experiment_tag(store.experiment_id, NOTE, fitting(note))
    return changed


def _report_address(store: Store, run: "Run") -> str:
    return f"#/experiments/{store.experiment_id}/runs/{run.info.run_id}/artifacts/{REPORT_PAGE}"


def _dataset(corpus: str, split: str, context: str) -> "DatasetInput":
    """A split of the encoded corpus as MLflow's dataset; its digest is the one that DVC has in dvc.lock."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    folder = ENCODED / split
    encoded = load_split(folder)
    return DatasetInput(
        Dataset(
            name=f"{corpus}, {split}",
            digest=dvc_digest(folder),
            source_type="local",
            source=json.dumps({"uri": folder.as_posix()}),
            profile=json.dumps({"sentences": len(encoded), "tokens": encoded.tokens}),
        ),
        [InputTag("mlflow.data.context", context)],
    )


def training_tokens(run: "Run") -> int:
    """How many predicted tokens the training split of a run has; 0 where the run does not say."""
    for used in run.inputs.dataset_inputs if run.inputs else []:
        if any(tag.value == TRAINING for tag in used.tags):
            return int(json.loads(used.dataset.profile or "{}").get("tokens", 0))
    return 0


def _parameter_count(folder: Path) -> int:
    """Numbers that training changed in a saved model, read from the head of its file."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS_FILE, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _precision(train: TrainSettings | TrainParams) -> str:
    """What `auto` came to on this machine."""
    if train.precision == "exact":
        return "exact"
    return "bf16" if uses_bf16(train.precision, chosen_device(train)) else "fp32"


def _training_inputs(cell: CellParams, vocabulary_size: int, of_all_seeds: bool = False) -> str:
    """What decides the result of a training run, as one short hash: an interrupted run is found by it.

    Without the seed, `of_all_seeds`, it is that of the recipe.
    """
    begun_with = first_weights_of(cell.model, context=cell.train.context)
    values = pages.cell_params(cell, vocabulary_size)
    if of_all_seeds:
        del values["train.seed"]
    return fingerprint(
        {
            "params": values,
            "code": digest_if_there(PINS / "train.txt"),
            **{split: dvc_digest(ENCODED / split) for split in ("train", "valid")},
            **({"warm_start": begun_with} if begun_with else {}),
        }
    )


def _digest(folder: Path) -> str:
    """A short hash of the files in a folder."""
    return fingerprint({path.name: dvc_digest(path) for path in sorted(folder.iterdir()) if path.is_file()})
