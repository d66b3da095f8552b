"""A sweep in MLflow: a run of its own, and one for each of its trials below it, in an experiment beside the models'.

So `rnnlm runs`, and whatever else looks for a model's run, never meets a trial, whose weights nobody keeps.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from pipeline.params import CellParams, Params
from pipeline.runtime.files import write_text
from pipeline.tracking import pages
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.record import code_tags
from pipeline.tracking.store import BestEffort, Store

SWEEPS_EXPERIMENT = "rnnlm-tune"
PARENT = "mlflow.parentRunId"  # the tag by which MLflow shows a run below another one
RUN_FILE = "mlflow_run"  # holds the id of the run of the sweep, or trial, in whose folder it lies

Status = Literal["FINISHED", "FAILED", "KILLED"]


class SweepRun:
    """The run of a sweep in MLflow; all calls of `rnnlm tune` that go on with it share one."""

    def __init__(self, folder: Path) -> None:
        """Nothing is sent yet; `folder` is that of the sweep."""
        self._file, self._try = folder / RUN_FILE, BestEffort(SWEEPS_EXPERIMENT)
        self.run_id: str | None = None

    def started(self, name: str, values: Mapping[str, str], interrupted: Iterable[Path]) -> None:
        """Begin the run or go on with it; end what a kill has left running.

        Args:
            name: that MLflow shows.
            values: parameters of the run.
            interrupted: files that may hold the id of a run of which no process is alive.
        """

        def start(store: Store) -> str:
            from mlflow.entities import Param

            for file in interrupted:
                if file != self._file and _is_running(store, run := file.read_text(encoding="utf-8").strip()):
                    store.client.set_terminated(run, "KILLED")
            known = self._file.read_text(encoding="utf-8").strip() if self._file.exists() else ""
            if _status(store, known):
                store.client.update_run(known, status="RUNNING")
                return known
            tags = code_tags() | {"mlflow.source.name": "rnnlm tune", "mlflow.source.type": "LOCAL"}
            run = store.client.create_run(store.experiment_id, run_name=name, tags=tags).info.run_id
            write_text(self._file, run)
            store.client.log_batch(run, params=[Param(key, value) for key, value in values.items()])
            return run

        self.run_id = self._try(start)

    def trial_ended(self, best: float | None, note: str) -> None:
        """Show the best validation perplexity so far, if there is one, and `note`, Markdown."""

        def show(store: Store, run: str) -> None:
            if best is not None:
                store.log_points(run, {"valid/best_perplexity": best}, 0)
            store.note(run, note)

        self._with_run(show)

    def ended(self, status: Status) -> None:
        """No process works at the sweep any more."""
        self._with_run(lambda store, run: store.client.set_terminated(run, status))

    def _with_run(self, action: Callable[[Store, str], None]) -> None:
        run = self.run_id
        if run is not None:
            self._try(lambda store: action(store, run))


class TrialRun(TrainingRun):
    """Mirrors one trial as a run in MLflow, below that of its sweep.

    A trial that goes on, or begins again, after a kill does so in the same run.
    """

    def __init__(
        self, params: Params, cell: CellParams, vocabulary_size: int, folder: Path, number: int, parent: str | None
    ) -> None:
        """As of `TrainingRun`; `folder` is that of the trial with this `number`, `parent` the id of the sweep's run."""
        super().__init__(params, cell, vocabulary_size, folder / RUN_FILE)
        self._try, self._number, self._parent = BestEffort(SWEEPS_EXPERIMENT), number, parent

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Begin the run or go on with it."""
        super().started(parameter_count, train_tokens, resumed=True)

    def _create(self, store: Store, parameter_count: int) -> str:
        from mlflow.entities import Param

        corpus = pages.corpus_name(self._params.download.source, self._params.download.path)
        tags = {"mlflow.source.name": "rnnlm tune", "mlflow.source.type": "LOCAL", "cell_type": self._cell.model.cell}
        tags |= {PARENT: self._parent} if self._parent else {}
        values = pages.cell_params(self._cell, self._vocabulary_size)
        values |= {"model.parameters": str(parameter_count), "data.corpus": corpus}
        name = f"trial {self._number}, {pages.run_name(self._cell, self._cell.train.epochs, corpus)}"
        run = store.client.create_run(store.experiment_id, run_name=name, tags=tags).info.run_id
        store.client.log_batch(run, params=[Param(key, value) for key, value in values.items()])
        return run

    def ended(self, status: Status, seconds: float, **tags: str) -> None:
        """The trial is over, and how it went stands in `tags`."""

        def end(store: Store, run: str) -> None:
            store.log_points(run, {"speed/training_seconds": seconds}, 0)
            store.tag(run, **tags)
            store.client.set_terminated(run, status)

        self._log_load(over=True)
        self._with_run(end)


def _status(store: Store, run: str) -> str | None:
    """None where the store has no such run: tracking was off, or it is another store."""
    from mlflow.exceptions import MlflowException

    try:
        return store.run(run).info.status if run else None
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _is_running(store: Store, run: str) -> bool:
    return _status(store, run) == "RUNNING"
