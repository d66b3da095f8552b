"""A sweep in MLflow: a run of its own, and one for each of its trials below it, in an experiment beside the models'.

So `rnnlm runs`, and whatever else looks for a model's run, never meets a trial, whose weights nobody keeps.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.params import CellParams, Params
from pipeline.tracking import pages
from pipeline.tracking.listener import LiveRun, Status, TrainingRun, run_in
from pipeline.tracking.record import code_tags
from pipeline.tracking.store import Store

SWEEPS_EXPERIMENT = "rnnlm-tune"
PARENT = "mlflow.parentRunId"  # the tag by which MLflow shows a run below another one
RUN_FILE = "mlflow_run"  # holds the id of the run of the sweep, or trial, in whose folder it lies

SOURCE = {"mlflow.source.name": "rnnlm tune", "mlflow.source.type": "LOCAL"}  # tags


class SweepRun(LiveRun):
    """The run of a sweep in MLflow; all calls of `rnnlm tune` that go on with it share one."""

    def __init__(self, folder: Path) -> None:
        """As of `LiveRun`; `folder` is that of the sweep."""
        super().__init__(folder / RUN_FILE, SWEEPS_EXPERIMENT)

    def started(self, name: str, values: Mapping[str, str], interrupted: Iterable[Path]) -> None:
        """Begin the run or go on with it; end what a kill has left running.

        Args:
            name: that MLflow shows.
            values: parameters of the run.
            interrupted: files that may hold the id of a run of which no process is alive.
        """

        def start(store: Store) -> str:
            for file in interrupted:
                run = run_in(file)
                if file != self._run_file and run and store.find_status(run) == "RUNNING":
                    store.client.set_terminated(run, "KILLED")
            return self._begun(store, lambda: store.create_run(name, values, code_tags() | SOURCE), resumed=True)

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
        self._end(status)


class TrialRun(TrainingRun):
    """Mirrors one trial as a run in MLflow, below that of its sweep.

    A trial that goes on, or begins again, after a kill does so in the same run.
    """

    def __init__(
        self, params: Params, cell: CellParams, vocabulary_size: int, folder: Path, number: int, parent: str | None
    ) -> None:
        """As of `TrainingRun`; `folder` is that of the trial with this `number`, `parent` the id of the sweep's run."""
        super().__init__(params, cell, vocabulary_size, folder / RUN_FILE, SWEEPS_EXPERIMENT)
        self._number, self._parent = number, parent

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        """Begin the run or go on with it."""
        super().started(parameter_count, train_tokens, resumed=True)

    def _create(self, store: Store, parameter_count: int) -> str:
        corpus = pages.corpus_name(self._params.download.source, self._params.download.path)
        tags = SOURCE | {"cell_type": self._cell.model.cell} | ({PARENT: self._parent} if self._parent else {})
        values = pages.cell_params(self._cell, self._vocabulary_size)
        values |= {"model.parameters": str(parameter_count), "data.corpus": corpus}
        name = f"trial {self._number}, {pages.run_name(self._cell, self._cell.train.epochs, corpus)}"
        return store.create_run(name, values, tags)

    def ended(self, status: Status, seconds: float, **tags: str) -> None:
        """The trial is over, and how it went stands in `tags`."""

        def end(store: Store, run: str) -> None:
            store.log_points(run, {"speed/training_seconds": seconds}, 0)
            store.tag(run, **tags)

        self._log_load(over=True)
        self._with_run(end)
        self._end(status)
