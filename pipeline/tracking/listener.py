"""Work mirrored in MLflow while it goes on: a training run's points go to its run there as they come."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline.params import CellParams, Params
from pipeline.runtime.files import write_text
from pipeline.tracking.machine_load import MachineLoad
from pipeline.tracking.pages import epoch_metrics
from pipeline.tracking.runs import complete_run, create_run, epochs_of
from pipeline.tracking.store import BestEffort, Store
from pipeline.training.history import EpochRecord

Status = Literal["FINISHED", "FAILED", "KILLED"]


class LiveRun:
    """A run in MLflow whose work may be killed and go on: in the same run, whose id a file keeps.

    Attributes:
        run_id: None before it has begun, and where MLflow is off or fails.
    """

    def __init__(self, run_file: Path, experiment: str | None = None) -> None:
        """Nothing is sent yet; the experiment is that of the models, unless another one is named."""
        self._run_file, self._try = run_file, BestEffort(experiment)
        self.run_id: str | None = None

    def _begun(self, store: Store, create: Callable[[], str], resumed: bool) -> str:
        """The run of the file if the work is `resumed` and the store has it, else a new one."""
        run = run_in(self._run_file) if resumed else None
        if run is None or store.find_status(run) is None:
            run = create()
            write_text(self._run_file, run)
        else:
            store.client.update_run(run, status="RUNNING")
        return run

    def _with_run(self, action: Callable[[Store, str], None]) -> None:
        run = self.run_id
        if run is not None:
            self._try(lambda store: action(store, run))

    def _end(self, status: Status) -> None:
        self._with_run(lambda store, run: store.client.set_terminated(run, status))


def run_in(file: Path) -> str | None:
    """The id that a file keeps; None where there is none, as tracking was off."""
    return file.read_text(encoding="utf-8").strip() or None if file.exists() else None


class TrainingRun(LiveRun):
    """Mirrors one training run as a run in MLflow; a `Listener` of pipeline.training.history."""

    def __init__(
        self, params: Params, cell: CellParams, vocabulary_size: int, run_file: Path, experiment: str | None = None
    ) -> None:
        """As of `LiveRun`; `cell` is that of one seed."""
        super().__init__(run_file, experiment)
        self._params, self._cell, self._vocabulary_size = params, cell, vocabulary_size
        self._logged: set[int] = set()  # epochs that the run already had when it was resumed
        self._load: MachineLoad | None = None

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Begin the run or resume it; the dataset's profile already has `train_tokens`."""

        def start(store: Store) -> str:
            run = self._begun(store, lambda: self._create(store, parameter_count), resumed)
            self._logged = epochs_of(store, run)
            self._load = MachineLoad(store.run(run).info.start_time)
            return run

        self.run_id = self._try(start)

    def _create(self, store: Store, parameter_count: int) -> str:
        return create_run(store, self._params, self._cell, self._vocabulary_size, parameter_count)

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
        self._end("KILLED" if killed else "FAILED")

    def _log_load(self, over: bool = False) -> None:
        load = self._load
        if load is not None:
            if over or self._try.failed:
                load.stop()
            self._with_run(lambda store, run: store.log_metrics(run, load.collected()))
