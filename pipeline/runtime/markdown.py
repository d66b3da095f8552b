"""Markdown for GitHub and MLflow: tables, and text that stays what it is."""

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]<>~&$])")  # what GitHub's Markdown acts on in a table, the pipe aside


def plain(text: str) -> str:
    """`text` for a cell of a table: nothing in it acts as Markdown."""
    return SPECIAL.sub(r"\\\1", text)


def markdown_table(rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """A table, the header first; Markdown in its cells acts, but a pipe does not end a cell.

    With `right`, all columns but the first are aligned to the right.
    """
    rule = ["---", *["---:" if right else "---"] * (len(rows[0]) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (rows[0], rule, *rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)
