"""Progress of long work: a bar in a terminal, now and then a plain line elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_INTERVAL = 15.0  # seconds between plain lines: readable in a CI log, yet a sign of life


def _rate(completed: float, seconds: float, unit: str) -> str:
    return f"{completed / seconds:,.0f} {unit}/s" if seconds > 0 else ""


def duration(seconds: float) -> str:
    """Such as `8 s`, `12 min` or `3.5 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task.completed, task.elapsed or 0.0, task.fields["unit"]))


class Bar:
    """Call `advance` with the units done and, if you like, a note such as "loss 4.31"."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more units; `note` replaces the note shown."""


class _TerminalBar(Bar):
    def __init__(self, progress: Progress, name: str, total: float | None, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total, unit=unit, note="")

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=note)


class _PlainBar(Bar):
    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._start = self._last = time.monotonic()
        self._done = 0.0
        self._note = ""

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL:
            self._last = now
            self.line()

    def line(self, over: bool = False) -> None:
        seconds = time.monotonic() - self._start
        total = f" of {self._total:,.0f}" if self._total else ""
        parts = [f"{self._name}: {self._done:,.0f}{total} {self._unit}", _rate(self._done, seconds, self._unit)]
        if self._total and 0 < self._done < self._total and not over:
            parts.append(f"{seconds * (self._total / self._done - 1):.0f} s left")
        print(", ".join(part for part in (*parts, self._note) if part), file=sys.stderr, flush=True)


@contextmanager
def progress_bar(name: str, total: float | None, unit: str) -> Iterator[Bar]:
    """Show progress of `name` ("tokenize") on standard error until the block ends.

    `total` is in units, None if unknown; `unit` is their name in the plural ("tokens").
    """
    console = Console(stderr=True)
    if console.is_interactive:  # a dumb terminal could show a bar only at the end
        known = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), _RateColumn(), TimeRemainingColumn())
        # Without a total, a share and a time that is left would stand at nothing to the end.
        unknown = (TextColumn("{task.completed:,.0f} {task.fields[unit]}"), _RateColumn())
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *(unknown if total is None else known),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield _TerminalBar(progress, name, total, unit)
    else:
        bar = _PlainBar(name, total, unit)
        yield bar
        bar.line(over=True)
