"""Markdown for GitHub and MLflow: tables, and text that stays what it is."""

import re
from collections.abc import Sequence

LONGEST = 1000  # characters of a quotation
# Sentences of ours: nothing in them is Markdown, HTML, a mention or an address.
HARMLESS = re.compile(r"(?!.*(?://|www|GH-))[A-Za-z][A-Za-z0-9 .,:;%()/'+-]*")
SPECIAL = re.compile(r"([\\`*_\[\]<>~&$])")  # what GitHub's Markdown acts on in a table, the pipe aside


def plain(text: str) -> str:
    """`text` for a cell of a table: nothing in it acts as Markdown."""
    return SPECIAL.sub(r"\\\1", text)


def quoted(text: str) -> str:
    """`text` from elsewhere on one line: as code where anything in it could act, and cut where it is long.

    GitHub acts on a mention such as @team also behind a backslash, but never in code.
    """
    text = " ".join(text.split())
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text) - LONGEST:,} more characters)"
    return text if HARMLESS.fullmatch(text) else code(text)


def code(text: str) -> str:
    """`text` as a span of code, which nothing in it can end: the fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    # A space at both ends is taken off again by Markdown.
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def markdown_table(rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """A table, the header first; Markdown in its cells acts, but a pipe does not end a cell.

    With `right`, all columns but the first are aligned to the right.
    """
    rule = ["---", *["---:" if right else "---"] * (len(rows[0]) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (rows[0], rule, *rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)
