"""Tables on standard output."""

import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.box import HEAVY_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table under its title; where the terminal is too narrow, cells are wrapped, and nothing is left out.

    Piped output is as wide as the table, so that nothing is cut in a log. It looks like rich's own tables, which take a
    millisecond for each row.
    """
    table = [[cell.splitlines() or [""] for cell in row] for row in (header, *rows)]
    widths = [max(cell_len(line) for row in table for line in row[column]) for column in range(len(header))]
    console = Console()
    if sys.stdout.isatty():
        _narrow(widths, console.width - 3 * len(widths) - 1)
    box = HEAVY_HEAD.substitute(console.options)
    edges = [width + 2 for width in widths]
    lines = _wrapped([title], sum(edges)) if title else []
    head, *body = [_row(row, widths) for row in table]
    lines.append(box.get_top(edges))
    lines += [box.head_left + box.head_vertical.join(cells) + box.head_right for cells in head]
    lines.append(box.get_row(edges, "head"))
    lines += [box.mid_left + box.mid_vertical.join(cells) + box.mid_right for row in body for cells in row]
    print("\n".join((*lines, box.get_bottom(edges))))


def _narrow(widths: list[int], room: int) -> None:
    """Take from the widest columns until all fit, but leave each one character."""
    while sum(widths) > room and max(widths) > 1:
        *_, second, widest = sorted([1, *widths])
        less = min(sum(widths) - room, max(widest - second, 1))
        widths[widths.index(widest)] -= less


def _row(cells: Sequence[list[str]], widths: Sequence[int]) -> list[list[str]]:
    """The lines of a row, each of them as its cells, padded."""
    wrapped = (_wrapped(lines, width) for lines, width in zip(cells, widths, strict=True))
    return [
        [f" {part}{' ' * (width - cell_len(part))} " for part, width in zip(parts, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue="")
    ]


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """The lines in pieces that fit, broken between words where that is possible."""
    if all(cell_len(line) <= width for line in lines):
        return list(lines)
    pieces = (piece for line in lines for piece in textwrap.wrap(line, width, break_on_hyphens=False) or [""])
    # textwrap counts characters, of which some take two places.
    return [part for piece in pieces for part in (chop_cells(piece, width) if cell_len(piece) > width else [piece])]
