"""A sweep: recipes trained one after the other, each as `dvc repro` would, and judged on the validation split alone.

Everything of it lies in .rnnlm/sweeps/KEY, where the key stands for code, data, the sections `model` and `train` and
what is searched: where any of these has changed, `rnnlm tune` begins another sweep. Run again, it goes on with this
one, and with a trial that was interrupted from its checkpoint. The first trial is the best of today's cells, so what
wins is never worse.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.locks import LOCKS, one_at_a_time
from pipeline.runtime.stopping import heeded_signals, raise_if_stopped
from pipeline.tracking.pages import corpus_name
from pipeline.tracking.sweep_runs import RUN_FILE, SweepRun
from pipeline.tuning.attempt import TimeOver, attempt
from pipeline.tuning.material import Material
from pipeline.tuning.space import drawn_of, entry_of
from pipeline.tuning.trials import JOURNAL, Trial, TrialRecord, Trials, mend
from pipeline.tuning.winner import require_free, write_cell

SWEEPS = Path(".rnnlm/sweeps")
TAKEN = "another `rnnlm tune` is at work in this folder; wait until it has ended, or stop it"
LONGEST_SHARE = 0.25  # of the minutes of a sweep that one trial may be expected to take


class Sweep:
    """The sweep over what lies in this folder. Raises InputError as `Material` does."""

    def __init__(self) -> None:
        self._material = Material()
        self.folder = SWEEPS / self._material.key

    def records(self) -> list[TrialRecord]:
        """All trials in their order.

        Raises:
            InputError: there is no sweep, or its journal is damaged.
        """
        if not (self.folder / JOURNAL).exists():
            raise InputError("there is no sweep over this data with these parameters; `rnnlm tune` begins one")
        return self._trials().records()

    def run(self, minutes: float) -> None:
        """Train until the sweep has had so many minutes, in all calls together, or nothing is left to try.

        Raises:
            InputError: another process works at a sweep here, or the journal is damaged.
            StoppedError: a signal came.
        """
        # Two would write one journal, and slow each other down.
        with one_at_a_time(LOCKS / "tune.lock", TAKEN), heeded_signals() as stop:
            mend(self.folder)
            if self._material.defaults["train"]["precision"] == "exact":
                warn_if_not_exact()
            trials = self._trials()
            self._enqueue_cells(trials)
            with self._mirrored() as run:
                while (left := minutes * 60 - sum(record.seconds for record in trials.records())) > 0:
                    raise_if_stopped("`rnnlm tune` goes on")
                    trial = trials.next(lambda drawn: self._new_entry(drawn, trials))
                    if trial is None:
                        _say("nothing new is left to try")
                        return
                    _say(f"trial {trial.number}: {_in_words(trial)}")
                    try:
                        longest = LONGEST_SHARE * minutes * 60
                        attempt(self._material, trials, trial, self.folder, run.run_id, stop, left, longest)
                    except TimeOver:
                        _say(f"{minutes:g} minutes are over; with more, `rnnlm tune` goes on with trial {trial.number}")
                        return
                    records = trials.records()
                    _say(next(_how_it_ended(record) for record in records if record.trial == trial.number))
                    best = ranked(records)[0]
                    if best.state == "finished":
                        _say(f"best so far: trial {best.trial}, validation perplexity {best.valid_perplexity:.2f}")
                        run.trial_ended(best.valid_perplexity, f"Best so far: {_in_words(best)}.")

    def require_free(self, name: str) -> None:
        """Raise InputError where `write` could not write an entry of this name."""
        recipes = [self._material.recipe(record.entry) for record in self._drawn()]
        require_free(name, lambda entry: self._material.recipe(entry) in recipes)

    def write(self, name: str) -> str:
        """Write the winner as an entry of `cells`; returns what was done, in a sentence.

        Raises:
            InputError: no trial has finished, or `cells` has another entry of this name.
        """
        winner = next(iter(ranked(self.records())), None)
        if winner is None or winner.state != "finished":
            raise InputError("no trial has finished yet; `rnnlm tune --minutes` gives it more time")
        if winner.cell is not None:
            return f"no trial was better than {winner.cell}, which params.yaml has; nothing was written"
        self.require_free(name)
        remark = f"by `rnnlm tune`: validation perplexity {winner.valid_perplexity:.2f}, weights {winner.weights}"
        if not write_cell(name, winner.entry, remark):
            return f"params.yaml has trial {winner.trial} as {name} already"
        return f"params.yaml has trial {winner.trial} as {name} now; `dvc repro` trains it again, to the same bytes"

    def _trials(self) -> Trials:
        return Trials(self.folder, self._material.space, self._material.defaults["train"]["seed"])

    def _drawn(self) -> list[TrialRecord]:
        there = (self.folder / JOURNAL).exists()
        return [record for record in self._trials().records() if record.cell is None] if there else []

    def _enqueue_cells(self, trials: Trials) -> None:
        """Let the best of today's cells be tried, and those that were never trained, unless they were before."""
        entries = self._material.entries
        known = [self._material.recipe(entry) for entry in trials.entries()]
        for name in self._material.today():
            recipe = self._material.recipe(entries[name])
            if recipe not in known:
                known.append(recipe)
                trials.enqueue(name, self._material.in_full(entries[name]), drawn_of(recipe, self._material.space))

    def _new_entry(self, drawn: Mapping[str, Any], trials: Trials) -> dict[str, Any] | None:
        """The entry that drawn values make; None where it does not fit, or its recipe was tried."""
        model = self._material.defaults["model"]
        entry = entry_of(drawn, model["hidden_size"], model["embedding_dim"])
        try:
            recipe = self._material.recipe(entry)
        except InputError as error:
            _say(f"left out: {error}")
            return None
        return None if recipe in map(self._material.recipe, trials.entries()) else self._material.in_full(entry)

    @contextmanager
    def _mirrored(self) -> Iterator[SweepRun]:
        """The run of the sweep in MLflow, which ends as the block does."""
        download, run, status = self._material.project.download, SweepRun(self.folder), "FAILED"
        values = {f"tune.search.{key}": str(choice) for key, choice in self._material.space.items()}
        run.started(f"sweep over {corpus_name(download.source, download.path)}", values, SWEEPS.rglob(RUN_FILE))
        try:
            yield run
            status = "FINISHED"
        except StoppedError:
            status = "KILLED"
            raise
        finally:
            run.ended(status)


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials that finished, the best first, and the others after them, those that went on for longer first."""

    def place(record: TrialRecord) -> tuple[bool, int, float]:
        finished = record.state == "finished"
        return not finished, 0 if finished else -record.epochs, record.valid_perplexity or 0

    return sorted(records, key=place)


def _in_words(trial: Trial | TrialRecord) -> str:
    return trial.cell or json.dumps(trial.entry).strip("{}").replace('"', "")


def _how_it_ended(record: TrialRecord) -> str:
    figure = "" if record.valid_perplexity is None else f", validation perplexity {record.valid_perplexity:.2f}"
    why = f" ({record.note})" if record.note else ""
    return f"trial {record.trial}: {record.state} after {record.epochs} epochs{figure}{why}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
