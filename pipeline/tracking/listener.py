"""What a training run reports to while it runs: its points go to its run in MLflow as they come."""

from collections.abc import Callable
from pathlib import Path

from pipeline.params import CellParams, Params
from pipeline.runtime.files import write_text
from pipeline.tracking.machine_load import MachineLoad
from pipeline.tracking.pages import epoch_metrics
from pipeline.tracking.runs import complete_run, create_run, epochs_of
from pipeline.tracking.store import BestEffort, Store
from pipeline.training.history import EpochRecord


class TrainingRun:
    """Mirrors one training run as a run in MLflow; a `Listener` of pipeline.training.history.

    If training is interrupted, it resumes in the same run in MLflow, whose id is kept in a file beside the checkpoints.
    """

    def __init__(self, params: Params, cell: CellParams, vocabulary_size: int, run_file: Path) -> None:
        """Nothing is sent yet; `cell` is that of one seed, `run_file` keeps the run's id until training ends."""
        self._params, self._cell, self._vocabulary_size, self._run_file = params, cell, vocabulary_size, run_file
        self._try = BestEffort()
        self._run_id: str | None = None
        self._logged: set[int] = set()  # epochs that the run already had when it was resumed
        self._load: MachineLoad | None = None

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Begin the run or resume it; the dataset's profile already has `train_tokens`."""

        def start(store: Store) -> str:
            run = self._interrupted_run(store) if resumed else None
            if run is None:
                run = self._create(store, parameter_count)
                write_text(self._run_file, run)
            else:
                store.client.update_run(run, status="RUNNING")
                self._logged = epochs_of(store, run)
            self._load = MachineLoad(store.run(run).info.start_time)
            return run

        self._run_id = self._try(start)

    def _create(self, store: Store, parameter_count: int) -> str:
        return create_run(store, self._params, self._cell, self._vocabulary_size, parameter_count)

    def _interrupted_run(self, store: Store) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return store.run(self._run_file.read_text(encoding="utf-8").strip()).info.run_id
        except (FileNotFoundError, MlflowException):
            return None  # tracking was off, or the run is on another server

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        """Add the epoch's points to the curves; MLflow would keep those of a repeated epoch twice."""
        if record.epoch in self._logged:
            return
        speed = {"speed/epoch_seconds": seconds, "speed/tokens_per_second": tokens_per_second}
        self._with_run(lambda store, run: store.log_points(run, epoch_metrics(record) | speed, record.epoch))
        self._log_load()

    def finished(self, seconds: float) -> None:
        """Log the model, which is in its folder by now, and end the run."""

        def finish(store: Store, run: str) -> None:
            store.log_points(run, {"speed/training_seconds": seconds}, 0)
            complete_run(store, run, self._cell)

        self._log_load(over=True)
        self._with_run(finish)

    def failed(self, killed: bool) -> None:
        """End the run as FAILED, or as KILLED if somebody stopped the training run."""
        self._log_load(over=True)
        self._with_run(lambda store, run: store.client.set_terminated(run, "KILLED" if killed else "FAILED"))

    def _log_load(self, over: bool = False) -> None:
        load = self._load
        if load is not None:
            if over or self._try.failed:
                load.stop()
            self._with_run(lambda store, run: store.log_metrics(run, load.collected()))

    def _with_run(self, action: Callable[[Store, str], None]) -> None:
        run = self._run_id
        if run is not None:
            self._try(lambda store: action(store, run))
