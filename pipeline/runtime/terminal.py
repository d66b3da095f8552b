"""Tables on standard output."""

import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.box import HEAVY_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table under its title; nothing is left out, and a word is broken only where it alone is too wide.

    In a terminal, cells are wrapped between words; where it is too narrow even for that, each row becomes a paragraph,
    with a cell on a line. Piped output is as wide as the table, so that nothing is cut in a log. It looks like rich's
    own tables, which take a millisecond for each row.
    """
    table = [[cell.splitlines() or [""] for cell in row] for row in (header, *rows)]
    console = Console()
    columns = list(zip(*table, strict=True))
    widths = [max(cell_len(line) for cell in column for line in cell) for column in columns]
    if sys.stdout.isatty():
        room = console.width - 3 * len(widths) - 1
        words = [max(_longest_word(line) for cell in column for line in cell) for column in columns]
        if sum(words) > room:
            _show_paragraphs(table, title, console.width)
            return
        bodies = [max((cell_len(line) for cell in column[1:] for line in cell), default=0) for column in columns]
        _narrow(widths, list(map(max, words, bodies)), room)  # first of all, names of columns may take more lines
        _narrow(widths, words, room)
    box = HEAVY_HEAD.substitute(console.options)
    edges = [width + 2 for width in widths]
    lines = _wrapped([title], sum(edges)) if title else []
    head, *body = [_row(row, widths) for row in table]
    lines.append(box.get_top(edges))
    lines += [box.head_left + box.head_vertical.join(cells) + box.head_right for cells in head]
    lines.append(box.get_row(edges, "head"))
    lines += [box.mid_left + box.mid_vertical.join(cells) + box.mid_right for row in body for cells in row]
    print("\n".join((*lines, box.get_bottom(edges))))


def show_text(*lines: str) -> None:
    """Print lines, in a terminal wrapped between words."""
    width = Console().width
    print("\n".join(_wrapped(lines, width) if sys.stdout.isatty() else lines))


def _show_paragraphs(table: Sequence[Sequence[list[str]]], title: str | None, width: int) -> None:
    """The first cell of each row on a line of its own, the others, with their column's name, indented below it."""
    head, *body = table
    lines = _wrapped([title], width) if title else []
    for first, *others in body:
        lines += _wrapped(first, width)
        for name, cell in zip(head[1:], others, strict=True):
            called = f"{' '.join(name)}: ".removeprefix(": ")  # a column may have no name
            told = [called + cell[0], *cell[1:]]
            lines += [f"  {line}" for line in _wrapped(told, width - 2)]
    print("\n".join(lines))


def _longest_word(line: str) -> int:
    return max(map(cell_len, line.split()), default=0)


def _narrow(widths: list[int], least: Sequence[int], room: int) -> None:
    """Take from the widest columns until all fit, as long as one has more than its least."""
    while sum(widths) > room and widths != list(least):
        _, column = max((width, index) for index, width in enumerate(widths) if width > least[index])
        widths[column] -= 1


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
