"""`benchmarks.quality --race`: a side's clock, who gets how much time, what the rows say, and the peer's training."""

import io
import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import race
from benchmarks.peers import WordLanguageModelTraining
from benchmarks.race import Side, TimeIsUpError, Turns, in_turn, race_rows
from pipeline.params import load_params
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from tests.conftest import PROJECT


class _Waits(io.StringIO):
    """Turns that come after 100 seconds each."""

    now = 0.0

    def readline(self, size: int = -1) -> str:
        self.now += 100
        return super().readline(size)


def test_a_clock_counts_its_own_turns_alone() -> None:
    given, told = _Waits("2\n3\n0\n"), io.StringIO()
    turns = Turns(given, told, lambda: given.now)
    turns.wait()
    for seconds in (1.5, 1.0):  # the second ends the turn, half a second late
        given.now += seconds
        turns.note(90.0)
        turns.raise_if_asked()
    given.now += 4.0
    with pytest.raises(TimeIsUpError):
        turns.raise_if_asked()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [line["seconds"] for line in lines] == [0.0, 2.5, 6.5]
    assert [line["points"] for line in lines] == [[], [[1.5, 90.0], [2.5, 90.0]], []]


class _Played(Side):
    """A side that works as long as it is told, and `late` more, until it has had `enough`."""

    def __init__(self, enough: float, late: float) -> None:
        self.seconds, self.enough, self.late, self.figures = 0.0, enough, late, {}

    def turn(self, seconds: float) -> None:
        self.seconds = min(self.seconds + seconds + self.late * (seconds > 0), self.enough)
        if not seconds or self.seconds == self.enough:
            self.figures = {"valid": 1.0}


@pytest.mark.parametrize(("enough", "seconds"), [(math.inf, 20.0), (11.0, 11.0)])
def test_the_peer_gets_as_long_as_ours_took_unless_it_is_done_before(enough: float, seconds: float) -> None:
    ours, peer = _Played(20.0, 0.3), _Played(enough, 0.2)
    in_turn(ours, peer)
    assert ours.over
    assert ours.seconds == 20.0
    assert peer.over
    assert peer.seconds == pytest.approx(seconds, abs=0.21)


def test_rows_compare_seconds_to_what_the_peer_reaches(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = [(10.0, 150.0), (20.0, 100.0)], [(50.0, 140.0), (100.0, 160.0), (150.0, 110.0), (200.0, 120.0)]
    rows = {row.name: row for row in race_rows("r_exact", ours, theirs)}
    assert list(rows) == [
        "valid_r_exact_epoch_1",
        "valid_r_exact_epoch_2",
        "seconds_r_exact_to_epoch_1",
        "seconds_r_exact_to_end",
    ]
    end = rows["seconds_r_exact_to_end"]
    assert (end.ours, end.theirs, end.ratio, end.unit) == (20.0, 150.0, 7.5, "s to validation perplexity 110.00")
    valid = rows["valid_r_exact_epoch_1"]
    assert (valid.ours, valid.theirs, valid.ratio) == (150.0, 110.0, 110 / 150)
    assert valid.unit == "validation perplexity after 10.0 s, theirs after 150.0 s"
    assert "word_language_model" in valid.peer
    assert "seconds_r_exact_to_end" not in [row.name for row in race_rows("r_exact", ours[:1], theirs)]
    assert "r_exact does not reach a validation perplexity of 110.00" in capsys.readouterr().err


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with a text of three splits, as a race prepares it."""
    words = ["SENTENCE_START", "SENTENCE_END", "a", "b", "c", "UNKNOWN_TOKEN"]
    Vocabulary(words, [0, 60, 90, 70, 20, 9]).save(tmp_path / "vocabulary.tsv")
    for name, sentences in {"train": 60, "valid": 9, "test": 8}.items():
        generator = np.random.default_rng(sentences)
        ids = [[0, *generator.integers(2, 6, 4), 1] for _ in range(sentences)]
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "ids.npy", np.array(ids, np.uint16).ravel())
        np.save(tmp_path / name / "offsets.npy", np.arange(sentences + 1) * 6)
    return tmp_path


def told_by(side: Any, asked: dict[str, Any], turns: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The lines that the process of a side writes."""
    told = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps(asked)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(turns))
    monkeypatch.setattr(sys, "stdout", told)
    side()
    return [json.loads(line) for line in told.getvalue().splitlines()]


def test_our_side_trains_as_it_is_told(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = load_params(PROJECT / "params.yaml").cell("lstm")
    train = in_numbers(cell.train, cell.model, 300)
    train = train.model_copy(update={"context": "stream", "epochs": 2, "device": "cpu"})
    model = cell.model.model_copy(update={"hidden_size": 8})
    asked = {"folder": str(text), "model": dict(model), "train": dict(train), "test": True}
    first, *between, last = told_by(race.our_side, asked, "1e-9\n" * 99, monkeypatch)
    assert first == {"seconds": 0.0, "points": []}
    assert len(between) >= 2 + 2  # after each step, and each batch of a validation
    assert sum(len(line["points"]) for line in (*between, last)) == 2
    assert set(last["figures"]) == {"valid", "test"}
    assert 1 < last["figures"]["valid"] < 6
    assert 1 < last["figures"]["test"] < 6


@pytest.mark.parametrize(("turns", "epochs"), [("1e9\n", 2), ("1e-9\n0\n", 0)], ids=["done", "out of time"])
def test_the_peers_side_tells_its_figures(turns: str, epochs: int, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told_by(race.peer_side, {"folder": str(text), "epochs": 2, "test": True}, turns, monkeypatch)
    assert len(lines[-1]["points"]) == epochs
    assert all(1 < lines[-1]["figures"][split] < 20 for split in ("valid", "test"))
    assert lines[-1]["seconds"] > 0


def test_a_side_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack, pytest.raises(race.InputError, match="the process of ours ended early"):
        Side("ours", "raise SystemExit('for this reason')", {}, tmp_path, stack)
    assert "for this reason" in capsys.readouterr().err


def test_the_peers_validation_reads_every_token_once() -> None:
    text_N = torch.from_numpy(np.random.default_rng(1).integers(0, 5, 10 * 40 + 1 + 6))
    training = WordLanguageModelTraining(5, text_N, text_N, lambda: None)
    model, nats = training.model.eval(), 0.0
    for stream in range(10):  # the last one goes on to the end of the text
        part = text_N[40 * stream : 40 * (stream + 1) + 1 if stream < 9 else None]
        log_p, _ = model(part[:-1, None], model.init_hidden())
        nats += functional.nll_loss(log_p, part[1:], reduction="sum").item()
    assert training.nats(text_N) == pytest.approx(nats / 406, rel=1e-5)


def test_the_peers_rate_falls_where_validation_does_not_and_its_best_weights_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text_N = torch.arange(90) % 5
    training = WordLanguageModelTraining(5, text_N, text_N, lambda: None)
    losses = iter([5.0, 4.0, 4.5, 4.0, 9.0])
    monkeypatch.setattr(training, "nats", lambda *_: next(losses))
    rates, weights = [], []
    for _ in range(4):
        assert training.epoch() > 1
        rates.append(training.rate)
        weights.append(training.model.decoder.weight.detach().clone())
    assert rates == [20.0, 20.0, 5.0, 1.25]
    assert training.end() == pytest.approx(math.exp(4.0))
    assert torch.equal(training.model.decoder.weight, weights[1])
    assert not torch.equal(weights[1], weights[3])
