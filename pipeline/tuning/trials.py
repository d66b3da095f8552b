"""The trials of a sweep, as Optuna keeps them: in a journal, a line an event, in which a kill loses nothing.

What is drawn for a trial is a function of the seed, the trial's number and the trials that were over by then, so a
sweep that was killed draws what it would have drawn. One process at a time may write; any may read.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pipeline.params import Range
from pipeline.runtime.errors import InputError, is_of_the_machine
from pipeline.runtime.settings import quieten_optuna
from pipeline.tuning.space import Space, rounded

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
AT_RANDOM = 8  # trials before Optuna's sampler (TPE, Bergstra et al. 2011) goes by what the others found
BEFORE_PRUNING = 4  # trials that must have ended before one is pruned
MOST_DRAWS = 100  # in search of a recipe that was not tried yet

State = Literal["finished", "pruned", "unfinished"]


class TrialRecord(NamedTuple):
    """What is known of one trial."""

    trial: int  # its number, from 0
    state: State
    valid_perplexity: float | None  # of the best epoch so far
    epochs: int  # that are over
    seconds: float  # of training and validation; 0 where it is unfinished
    parameters: int | None
    weights: str | None  # SHA-256 of its model.safetensors
    cell: str | None  # of params.yaml, if it is the recipe of one; else it was drawn
    note: str  # why it was pruned, if not for its perplexity
    entry: dict[str, Any]  # of `cells`


class Trial:
    """One trial that is under way; `entry` is that of `cells` which it tries, `cell` as in `TrialRecord`."""

    def __init__(self, handle: "optuna.Trial") -> None:
        self._handle = handle
        self.number: int = handle.number
        self.entry: dict[str, Any] = handle.user_attrs["entry"]
        self.cell: str | None = handle.user_attrs["cell"]

    def is_hopeless(self, epoch: int, valid_perplexity: float) -> bool:
        """Put an epoch on record; whether the trial is worse by then than half of those that finished.

        The recipe of a cell of params.yaml never is: the others are measured by it.
        """
        if epoch not in self._handle.storage.get_trial(self._handle._trial_id).intermediate_values:
            self._handle.report(valid_perplexity, epoch)
        return self.cell is None and self._handle.should_prune()

    def begin(self) -> int:
        """Count that it is begun; returns how often that was by now."""
        self.note(begun=self._handle.user_attrs.get("begun", 0) + 1)
        return self._handle.user_attrs["begun"]

    def note(self, **values: Any) -> None:
        """Put fields of `TrialRecord` on record."""
        for key, value in values.items():
            self._handle.set_user_attr(key, value)


class Trials:
    """The trials of the sweep that lies in `folder`, which is made if need be.

    Raises:
        InputError: the journal is damaged.
    """

    def __init__(self, folder: Path, space: Space, seed: int) -> None:
        from optuna import create_study
        from optuna.pruners import MedianPruner
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        quieten_optuna()
        self._space, self._seed = space, seed
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        try:
            storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            pruner = MedianPruner(n_startup_trials=BEFORE_PRUNING)
            self._study = create_study(storage=storage, pruner=pruner, study_name="sweep", load_if_exists=True)
        except Exception as error:  # Optuna raises nearly anything for a damaged journal
            if is_of_the_machine(error):
                raise
            raise InputError(f"{path} is damaged; delete {folder} to begin the sweep again") from None

    def records(self) -> list[TrialRecord]:
        """All trials in their order, but those whose recipe another one has."""
        return [_record(trial) for trial in self._study.get_trials(deepcopy=False) if _is_one(trial)]

    def entries(self) -> list[dict[str, Any]]:
        """Of all trials, those included that wait for their turn."""
        known = [trial.user_attrs for trial in self._study.get_trials(deepcopy=False)]
        return [attributes["entry"] for attributes in known if "cell" in attributes]

    def enqueue(self, cell: str, entry: Mapping[str, Any], drawn: Mapping[str, Any]) -> None:
        """Let the next trial be that of a cell of params.yaml, which might have been drawn so."""
        attributes = {"cell": cell, "entry": dict(entry), "searched": list(drawn)}
        self._study.enqueue_trial({key: _told(self._space[key], value) for key, value in drawn.items()}, attributes)

    def next(self, make: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Trial | None:
        """The trial that was interrupted, or else a new one; None where nothing new is found.

        `make` returns the entry of `cells` that drawn values make, and None where that recipe was tried.
        """
        import optuna
        from optuna.trial import TrialState

        for _ in range(MOST_DRAWS):
            trials = self._study.get_trials(deepcopy=False)
            begun = [trial for trial in trials if trial.state == TrialState.RUNNING]
            waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
            self._study.sampler = _sampler(
                self._seed, [*begun, *waiting][0].number if begun or waiting else len(trials)
            )
            handle = optuna.trial.Trial(self._study, begun[0]._trial_id) if begun else self._study.ask()
            if "cell" in handle.user_attrs:  # it is a cell's, or was drawn before a kill
                for key in handle.user_attrs.get("searched", ()):
                    _drawn(handle, key, self._space[key])
                return Trial(handle)
            entry = make({key: _drawn(handle, key, choice) for key, choice in self._space.items()})
            if entry is not None:
                handle.set_user_attr("entry", entry)
                handle.set_user_attr("cell", None)
                return Trial(handle)
            self._study.tell(handle, state=TrialState.FAIL)
        return None

    def finish(self, trial: Trial, valid_perplexity: float) -> None:
        """A trial is over, with this perplexity of its best epoch."""
        self._study.tell(trial.number, valid_perplexity)

    def prune(self, trial: Trial) -> None:
        """A trial is given up; Optuna takes it for a bad one."""
        from optuna.trial import TrialState

        self._study.tell(trial.number, state=TrialState.PRUNED)


def mend(folder: Path) -> None:
    """Take away what a killed process left in a sweep's folder: half a line, and Optuna's lock.

    Only for whoever holds the sweep's own lock.
    """
    path = folder / JOURNAL
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:
        os.truncate(path, content.rfind(b"\n") + 1)


def _sampler(seed: int, number: int) -> "optuna.samplers.TPESampler":
    from optuna.samplers import TPESampler

    mixed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return TPESampler(seed=mixed, n_startup_trials=AT_RANDOM)


def _drawn(handle: "optuna.Trial", key: str, choice: Sequence[Any] | Range) -> Any:
    if not isinstance(choice, Range):
        return json.loads(handle.suggest_categorical(key, [json.dumps(value) for value in choice]))  # some are lists
    low, high, log = choice.low, choice.high, choice.low > 0
    if isinstance(low, int) and isinstance(high, int):
        return rounded(handle.suggest_int(key, low, high, log=log), choice)
    return rounded(handle.suggest_float(key, low, high, log=log), choice)


def _told(choice: Sequence[Any] | Range, value: Any) -> Any:
    """A value as Optuna knows it."""
    return value if isinstance(choice, Range) else json.dumps(value)


def _is_one(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") and "cell" in trial.user_attrs


def _record(trial: "optuna.trial.FrozenTrial") -> TrialRecord:
    states: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "RUNNING": "unfinished"}
    known = trial.user_attrs
    return TrialRecord(
        trial.number,
        states[trial.state.name],
        min(trial.intermediate_values.values(), default=None),
        len(trial.intermediate_values),
        known.get("seconds", 0.0) if trial.state.is_finished() else 0.0,
        known.get("parameters"),
        known.get("weights"),
        known["cell"],
        known.get("note", ""),
        known["entry"],
    )
