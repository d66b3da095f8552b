"""Progress: plain lines where nobody watches, a bar in a terminal, nothing on standard output."""

import functools
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline.runtime import progress
from pipeline.runtime.progress import PLAIN_INTERVAL, progress_bar


class Clock:
    """A clock that stands until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Standard error is a wide terminal, whose clock is `clock`."""
    monkeypatch.setenv("TERM", "xterm")
    console = functools.partial(Console, force_terminal=True, width=200, color_system=None, get_time=clock)
    monkeypatch.setattr(progress, "Console", console)


def test_plain_lines_come_at_most_every_interval_and_once_at_the_end(clock: Clock, capsys):
    with progress_bar("train", 4000, "tokens") as bar:
        for _ in range(40):  # 3 s and 100 tokens each
            clock.now += PLAIN_INTERVAL / 5
            bar.advance(100, f"loss {clock.now:.0f}")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "train: 500 of 4,000 tokens, 33 tokens/s, 105 s left, loss 1015",
        "train: 1,000 of 4,000 tokens, 33 tokens/s, 90 s left, loss 1030",
        "train: 1,500 of 4,000 tokens, 33 tokens/s, 75 s left, loss 1045",
        "train: 2,000 of 4,000 tokens, 33 tokens/s, 60 s left, loss 1060",
        "train: 2,500 of 4,000 tokens, 33 tokens/s, 45 s left, loss 1075",
        "train: 3,000 of 4,000 tokens, 33 tokens/s, 30 s left, loss 1090",
        "train: 3,500 of 4,000 tokens, 33 tokens/s, 15 s left, loss 1105",
        "train: 4,000 of 4,000 tokens, 33 tokens/s, loss 1120",
        "train: 4,000 of 4,000 tokens, 33 tokens/s, loss 1120",
    ]


def test_after_a_long_step_lines_do_not_catch_up(clock: Clock, capsys):
    with progress_bar("train", 100, "tokens") as bar:
        clock.now += 10 * PLAIN_INTERVAL
        for _ in range(3):
            bar.advance()
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_where_the_total_is_unknown_no_time_is_promised(clock: Clock, capsys):
    with progress_bar("download", None, "documents") as bar:
        clock.now += 20
        bar.advance(30)
        clock.now += 10
        bar.advance(30, "numpy")
        bar.advance(30)  # the last note stays
    assert capsys.readouterr().err.splitlines() == [
        "download: 30 documents, 2 documents/s",
        "download: 90 documents, 3 documents/s, numpy",
    ]


def test_work_that_ends_early_has_no_time_left(clock: Clock, capsys):
    with progress_bar("train", 100, "tokens") as bar:
        clock.now += 5
        bar.advance(50)
    assert capsys.readouterr().err == "train: 50 of 100 tokens, 10 tokens/s\n"


def test_work_without_a_step_and_work_that_fails(clock: Clock, capsys):
    with progress_bar("encode", 0, "sentences"):
        pass
    assert capsys.readouterr().err == "encode: 0 sentences\n"

    def fails() -> None:
        with progress_bar("encode", 10, "sentences"):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()
    assert capsys.readouterr().err == ""  # what went wrong is the last word


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_bar_with_rate_time_left_and_note(clock: Clock, capsys):
    with progress_bar("train", 4000, "tokens") as bar:
        for _ in range(3):
            clock.now += 10
            bar.advance(1000, "loss 4.31")
    shown = capsys.readouterr()
    assert shown.out == ""
    # Control codes aside, what stands there in the end:
    last = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d?;]*[A-Za-z]", "", shown.err).strip())[-1]
    assert re.search(r"train ━+ +75% 100 tokens/s 0:00:10 loss 4\.31", last)


@pytest.mark.usefixtures("terminal")
def test_work_without_a_total_shows_count_and_rate_and_does_not_end_at_nothing(clock: Clock, capsys):
    with progress_bar("download", None, "documents") as bar:
        clock.now += 10
        bar.advance(50)
    last = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d?;]*[A-Za-z]", "", capsys.readouterr().err).strip())[-1]
    assert re.search(r"download 50 documents 5 documents/s", last)
    assert "%" not in last
    assert "━" not in last


@pytest.mark.usefixtures("terminal")
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(clock: Clock, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar("train", 100, "tokens") as bar:
        clock.now += PLAIN_INTERVAL
        bar.advance(30)
        assert capsys.readouterr().err == "train: 30 of 100 tokens, 2 tokens/s, 35 s left\n"
