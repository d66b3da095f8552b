"""What the stages tell MLflow: one run a training, its evaluation and its report in the same run.

A run is tied to its model by the SHA-256 of the model's files (tag `model_digest`), so a model that DVC restored finds
its run again, and no random id stands in any output.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pipeline.evaluation.results import read_metrics
from pipeline.model.language_model import model_digest
from pipeline.params import CellParams
from pipeline.provenance.dvc import dvc_digest
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import fingerprint
from pipeline.tracking.machine_load import MachineLoad
from pipeline.tracking.pages import (
    epoch_metrics,
    evaluation_metrics,
    evaluation_note,
    experiment_note,
)
from pipeline.tracking.record import record_outputs
from pipeline.tracking.registry import make_challenger, register
from pipeline.tracking.report_page import report_page
from pipeline.tracking.store import NOTE, BestEffort, Store, fitting
from pipeline.tracking.training_runs import (
    complete_run,
    create_run,
    dataset,
    resume_run,
    trained_run,
    training_text,
)
from pipeline.training.history import EpochRecord, best_cell

REPORT, REPORT_PAGE = "report", "report.html"  # the folder of a run's artifacts, and the file in it


class TrainingRun:
    """Follows one training and mirrors it as a run in MLflow; a `Listener` of pipeline.training.history.

    A training that was interrupted goes on in its run, whose id waits in a file beside the checkpoints.
    """

    def __init__(self, cell: CellParams, vocabulary_size: int, folder: Path, run_file: Path) -> None:
        self._cell, self._vocabulary_size, self._folder = cell, vocabulary_size, folder
        self._run_file = run_file
        self._try = BestEffort()
        self._run_id: str | None = None
        self._logged: set[int] = set()  # epochs that the run had before it was taken up again
        self._load: MachineLoad | None = None

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Begin the run or take it up again; `train_tokens` already stands in the dataset's profile."""

        def start(store: Store) -> str:
            run = self._interrupted_run(store) if resumed else None
            if run is None:
                run = create_run(store, self._cell, self._vocabulary_size, parameter_count)
                write_text(self._run_file, run)
            else:
                self._logged = resume_run(store, run)
            self._load = MachineLoad(store.run(run).info.start_time)
            return run

        self._run_id = self._try(start)

    def _interrupted_run(self, store: Store) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return store.run(self._run_file.read_text(encoding="utf-8").strip()).info.run_id
        except (FileNotFoundError, MlflowException):
            return None  # tracking was off, or is another server's now

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        """Add the epoch's points to the curves; MLflow would keep those of a repeated epoch twice."""
        if record.epoch in self._logged:
            return
        speed = {"speed/epoch_seconds": seconds, "speed/tokens_per_second": tokens_per_second}
        self._with_run(lambda store, run: store.log_points(run, epoch_metrics(record) | speed, record.epoch))
        self._log_load()

    def finished(self, seconds: float) -> None:
        """Log the model that now lies in the folder, and end the run."""

        def finish(store: Store, run: str) -> None:
            store.log_points(run, {"speed/training_seconds": seconds}, 0)
            complete_run(store, run, self._cell, self._folder)

        self._log_load(over=True)
        self._with_run(finish)

    def failed(self, killed: bool) -> None:
        """End the run as FAILED, or as KILLED where somebody stopped the training."""
        self._log_load(over=True)
        status = "KILLED" if killed else "FAILED"
        self._with_run(lambda store, run: store.client.set_terminated(run, status))

    def _log_load(self, over: bool = False) -> None:
        """Send what the machine did since the last epoch."""
        load = self._load
        if load is not None:
            if over or self._try.failed:
                load.stop()
            self._with_run(lambda store, run: store.log_metrics(run, load.collected()))

    def _with_run(self, action: Callable[[Store, str], None]) -> None:
        run = self._run_id
        if run is not None:
            self._try(lambda store: action(store, run))


def training_listener(cell: CellParams, vocabulary_size: int, folder: Path, run_file: Path) -> TrainingRun:
    """What a training reports to.

    Args:
        cell: what is trained.
        vocabulary_size: C.
        folder: where its model and history will lie when it has finished.
        run_file: where the run's id waits while the training may be interrupted.
    """
    return TrainingRun(cell, vocabulary_size, folder, run_file)


def log_evaluation(cell: CellParams, model_folder: Path, evaluation_folder: Path) -> None:
    """Add what `evaluate` left to the run of its model, which is made, marked `restored`, where there is none.

    Its model becomes a version of the registered model. Where MLflow fails, there is one warning and no error; so too
    in `log_report` and in what follows a training.

    Args:
        cell: whose model it is.
        model_folder: data/models/NAME.
        evaluation_folder: data/evaluation/NAME.
    """
    BestEffort()(lambda store: add_evaluation(store, cell, model_folder, evaluation_folder))


def log_report(report_folder: Path, names: Sequence[str]) -> None:
    """Add the report to the runs of the models it compares, and put its table on the experiment's page.

    The best of them on the validation split becomes the challenger.

    Args:
        report_folder: data/report; the models lie beside it, in data/models/NAME.
        names: of the models.
    """
    BestEffort()(lambda store: add_report(store, report_folder, names))


def add_evaluation(store: Store, cell: CellParams, model_folder: Path, evaluation_folder: Path) -> bool:
    """As `log_evaluation`, but raises what MLflow raises; says whether anything was missing."""
    from mlflow.entities import Metric

    run = trained_run(store, cell, model_folder)
    files = sorted(path for path in evaluation_folder.iterdir() if path.is_file())
    digest = _digest(files)
    run_id = run.info.run_id
    if run.data.tags.get("evaluation_digest") == digest:
        return register(store, run_id)
    measured = read_metrics(evaluation_folder / "metrics.json")
    test = dataset("test", "evaluation")
    store.client.log_inputs(run_id, [test])
    now = int(time.time() * 1000)
    models = run.outputs.model_outputs if run.outputs else []
    points = [
        Metric(
            key,
            value,
            now,
            0,
            model_id=models[-1].model_id if models else None,
            dataset_name=test.dataset.name,
            dataset_digest=test.dataset.digest,
            run_id=run_id,
        )
        for key, value in evaluation_metrics(measured).items()
        # MLflow appends: an evaluation that ran again would draw every point twice.
        if run.data.metrics.get(key) != value
    ]
    store.client.log_batch(run_id, metrics=points)
    for path in files:
        store.client.log_artifact(run_id, str(path), "evaluation")
    record_outputs(store, run_id, "evaluate", cell.name)
    samples = (evaluation_folder / "samples.txt").read_text(encoding="utf-8").splitlines()
    note = evaluation_note(training_text(cell, model_folder, run.data.tags), measured, samples)
    store.note(run_id, note)
    for model in models:
        about = {NOTE: fitting(note), "cell": cell.name, "cell_type": cell.model.cell}
        store.client.set_logged_model_tags(model.model_id, about)
    store.tag(run_id, evaluation_digest=digest)
    register(store, run_id)
    return True


def add_report(store: Store, report_folder: Path, names: Sequence[str]) -> bool:
    """As `log_report`, but raises what MLflow raises; says whether anything was missing."""
    files = sorted(path for path in report_folder.iterdir() if path.is_file())
    digest = _digest(files)
    models = report_folder.parent / "models"
    changed = False
    for name in names:
        run = store.find_run(model_digest(models / name))
        if run is None or run.data.tags.get("report_digest") == digest:
            continue
        changed = True
        for path in files:
            store.client.log_artifact(run.info.run_id, str(path), REPORT)
        store.client.log_text(run.info.run_id, report_page(report_folder / "report.md"), f"{REPORT}/{REPORT_PAGE}")
        store.tag(run.info.run_id, report_digest=digest)
    best = model_digest(models / best_cell(models, names))
    if changed:
        # The report up to its first chapter: what was measured, the table, the verdicts.
        table = (report_folder / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
        run = store.find_run(best)
        link = run and f"#/experiments/{store.experiment_id}/runs/{run.info.run_id}/artifacts/{REPORT}/{REPORT_PAGE}"
        store.client.set_experiment_tag(store.experiment_id, NOTE, fitting(experiment_note(table, link)))
    make_challenger(store, best)
    return changed


def _digest(files: Iterable[Path]) -> str:
    return fingerprint({path.name: dvc_digest(path) for path in files})
