"""Our CSV files: a header, then one row per record, in UTF-8 with Unix line ends.

Python's csv module writes a float as `repr` does, so it reads back exactly. pandas would take as many lines here and
half a second to import, and its version too would decide the bytes of every training run.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar, get_type_hints

from pipeline.runtime.files import atomic_path

Row = TypeVar("Row")
SIGNIFICANT = 6  # digits of a figure that people read


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write `rows`, each with a value per column, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def rounded(value: object) -> object:
    """A float with `SIGNIFICANT` digits, so that its last bits are in no file; anything else as it is."""
    return float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file, at least one.

    The fields of `kind`, a dataclass or NamedTuple, are the columns, in order, and of type int, float or str.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a table.
    """
    types = get_type_hints(kind)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except csv.Error as error:
        raise ValueError(error) from None
    if header != list(types) or not rows:
        raise ValueError(f"no rows of {', '.join(types)}")
    return [kind(*(read(text) for read, text in zip(types.values(), row, strict=True))) for row in rows]
