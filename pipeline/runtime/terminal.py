"""Tables on standard output."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 100_000  # columns; piped output is as wide as the table, so that nothing is cut in a log


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table under its title; where the terminal is too narrow, cells are wrapped, and nothing is left out."""
    # Text, as in plain strings rich would read [...] as markup.
    table = Table(title=title and Text(title, "bold"), title_justify="left")
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
