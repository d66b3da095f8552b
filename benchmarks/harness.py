"""Ours against a peer: interleaved in one run, medians, one table, one JSON format.

Machines are shared and noisy, so the two sides take turns (A B A B), medians are compared, and the claim is a ratio,
never a time.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.runtime.errors import InputError

REPEATS = 7


@dataclass(frozen=True)
class Result:
    """One row. `ratio` is above 1 where ours is better."""

    name: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    spread: float  # of the ratio over the pairs: (upper quartile - lower quartile) / median


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    name: str, peer: str, ours: Callable[[], object], theirs: Callable[[], object], amount: float = 0, unit: str = "ms"
) -> Result:
    """Time the two in turn, `REPEATS` times after one call each to warm up.

    Args:
        name: of the row.
        peer: what `theirs` is.
        ours: the project's way.
        theirs: the peer's way to the same end.
        amount: how much of `unit` a call does, such as 2048 for "tokens/s"; 0: the figures are milliseconds a call.
        unit: of the figures.
    """
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(REPEATS)]
    return from_pairs(name, peer, pairs, amount, unit)


def from_pairs(name: str, peer: str, pairs: list[tuple[float, float]], amount: float, unit: str) -> Result:
    """A row from pairs of seconds, ours and theirs, that were measured one right after the other."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [their / our for our, their in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    our_figure, their_figure = (amount / side if amount else 1e3 * side for side in (ours, theirs))
    return Result(name, peer, our_figure, their_figure, unit, theirs / ours, (high - low) / middle)


JsonFile = Annotated[Path | None, typer.Option("--json", help="write the rows to this file")]


def run(rows: Callable[[], Iterable[Result]]) -> None:
    """The command line of a benchmark without arguments; see `report`."""

    def main(json_file: JsonFile = None) -> None:
        report(rows(), json_file)

    start(main)


def start(main: Callable[..., None]) -> None:
    """Run `main` as a command line; input that does not fit is one line on standard error."""
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")


def report(rows: Iterable[Result], json_file: Path | None) -> None:
    """Measure, print a table, and write the rows to `json_file`, if that is named.

    Args:
        rows: yields a row as soon as it is measured.
        json_file: where they go, a list of objects with the fields of `Result`.
    """
    results = []
    for result in rows:
        print(f"{result.name}: {result.ratio:.2f}x", file=sys.stderr, flush=True)
        results.append(result)
    table = Table("name", "peer", "ours", "theirs", "unit", "ratio", "spread")
    for row in results:
        table.add_row(
            row.name,
            row.peer,
            f"{row.ours:,.4g}",
            f"{row.theirs:,.4g}",
            row.unit,
            f"{row.ratio:.2f}",
            f"{row.spread:.0%}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in results], indent=1) + "\n", encoding="utf-8")
