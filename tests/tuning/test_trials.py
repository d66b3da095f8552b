"""Trials in Optuna's journal: drawn the same after a kill, never lost, given up where they are hopeless."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.params import Range
from pipeline.runtime.errors import InputError
from pipeline.tuning.trials import AT_RANDOM, JOURNAL, Trials, mend

SPACE = {
    "cell": ["lstm", "gru"],
    "betas": [[0.9, 0.999], None],
    "hidden_size": Range(low=10, high=500),
    "dropout": Range(low=0.0, high=0.5),
}


def opened(folder: Path) -> Trials:
    return Trials(folder, SPACE, seed=1)


def figure(entry: dict[str, Any]) -> float:
    """The smaller, the better."""
    return 50 + entry["hidden_size"] + 100 * entry["dropout"]


def drawn(folder: Path, count: int, again: bool = False, sign: int = 1) -> list[dict[str, Any]]:
    """The entries of so many trials, each finished; the study is opened anew before each if `again`."""
    trials, entries = opened(folder), []
    for _ in range(count):
        trials = opened(folder) if again else trials
        trial = trials.next(lambda values: values)
        assert trial is not None
        trials.finish(trial, 1000 + sign * figure(trial.entry))
        entries.append(trial.entry)
    return entries


def test_draws_are_a_function_of_the_seed_and_of_what_is_known(tmp_path: Path) -> None:
    count = AT_RANDOM + 3
    entries = drawn(tmp_path / "one", count)
    assert entries == drawn(tmp_path / "two", count, again=True)
    assert len({str(entry) for entry in entries}) == count
    assert {str(entry["betas"]) for entry in entries} == {"[0.9, 0.999]", "None"}
    assert all(isinstance(entry["hidden_size"], int) and 10 <= entry["hidden_size"] <= 500 for entry in entries)
    # Those after the first few go by what the others came to.
    others = drawn(tmp_path / "three", count, sign=-1)
    assert [ours == theirs for ours, theirs in zip(entries, others, strict=True)] == [True] * AT_RANDOM + [False] * 3


def test_a_trial_that_was_killed_goes_on_with_what_was_drawn(tmp_path: Path) -> None:
    before = opened(tmp_path).next(lambda values: values)
    assert before is not None
    after = opened(tmp_path).next(lambda values: pytest.fail("drawn again"))
    assert after is not None
    assert (after.number, after.entry, after.cell) == (before.number, before.entry, None)
    assert [after.begin(), after.begin()] == [1, 2]
    assert opened(tmp_path).next(lambda values: None).begin() == 3  # pyrefly: ignore[missing-attribute]


class Killed(BaseException):
    pass


def test_a_kill_between_a_draw_and_its_record_costs_nothing(tmp_path: Path) -> None:
    def killed(values: dict[str, Any]) -> None:
        seen.append(values)
        raise Killed

    seen: list[dict[str, Any]] = []
    with pytest.raises(Killed):
        opened(tmp_path).next(killed)
    assert opened(tmp_path).records() == []
    trial = opened(tmp_path).next(lambda values: values)
    assert trial is not None
    assert (trial.number, [trial.entry]) == (0, seen)


def test_a_recipe_that_was_tried_is_drawn_no_more_and_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tuning.trials.MOST_DRAWS", 4)
    trials, tried = opened(tmp_path), []
    first = trials.next(lambda values: tried.append(values) or (values if len(tried) > 2 else None))
    assert first is not None
    assert (first.number, len(tried)) == (2, 3)
    assert [record.trial for record in trials.records()] == [2]
    trials.finish(first, 9.0)
    assert trials.next(lambda values: None) is None


def test_the_recipe_of_a_cell_is_the_first_and_is_never_given_up(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    trials.enqueue("lstm", {"hidden_size": 100, "bias": False}, {"hidden_size": 100, "cell": "lstm"})
    assert trials.entries() == [{"hidden_size": 100, "bias": False}]
    trial = trials.next(lambda values: pytest.fail("nothing is to be drawn"))
    assert trial is not None
    assert (trial.number, trial.cell, trial.entry) == (0, "lstm", {"hidden_size": 100, "bias": False})
    trials.finish(trial, 80.0)
    for perplexity in (90.0, 80.0, 70.0, 60.0):
        other = trials.next(lambda values: values)
        assert other is not None
        assert not other.is_hopeless(1, perplexity)  # too few have finished
        trials.finish(other, perplexity - 1)
    trials.enqueue("gru", {}, {})
    cell = trials.next(lambda values: values)
    assert cell is not None
    assert not cell.is_hopeless(1, 99.0)
    trials.finish(cell, 99.0)
    worse, better = 85.0, 65.0
    trial = trials.next(lambda values: values)
    assert trial is not None
    assert not trial.is_hopeless(1, better)
    trials.finish(trial, better)
    trial = trials.next(lambda values: values)
    assert trial is not None
    assert trial.is_hopeless(1, worse)
    assert trial.is_hopeless(1, worse)  # told again, after a kill
    trial.note(seconds=3.0, note="")
    trials.prune(trial)
    record = trials.records()[-1]
    assert (record.state, record.valid_perplexity, record.epochs, record.seconds) == ("pruned", worse, 1, 3.0)


def test_half_a_line_and_a_lock_that_a_kill_left_are_taken_away(tmp_path: Path) -> None:
    entries = drawn(tmp_path, 2)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"stud')
    (tmp_path / f"{JOURNAL}.lock").touch()
    mend(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [JOURNAL]
    assert path.read_bytes() == whole
    assert [record.entry for record in opened(tmp_path).records()] == entries
    mend(tmp_path / "nothing")


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    drawn(tmp_path, 1)
    (tmp_path / JOURNAL).write_text('{"op_code":0}\nnothing\n')
    with pytest.raises(InputError, match=rf"{JOURNAL} is damaged; delete {tmp_path} to begin the sweep again"):
        opened(tmp_path)
