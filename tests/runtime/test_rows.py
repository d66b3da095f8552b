import csv
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.runtime.rows import read_rows, write_rows


class Price(NamedTuple):
    thing: str
    pieces: int
    cost: float


ROWS = [Price("nan", 1, 0.1 + 0.2), Price("null", 2, 1e-300), Price('a "b", c\nd', 3, 2.0), Price("", 4, float("inf"))]


def test_what_is_written_reads_back_exactly_words_like_nan_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "prices.csv", Price._fields, ROWS)
    assert read_rows(tmp_path / "new" / "prices.csv", Price) == ROWS


def test_the_file_is_plain_text_with_unix_line_ends(tmp_path: Path) -> None:
    write_rows(tmp_path / "prices.csv", Price._fields, [("a,b", 1, "2.50")])
    assert (tmp_path / "prices.csv").read_bytes() == b'thing,pieces,cost\n"a,b",1,2.50\n'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"thing,pieces,cost\n",
        b"pieces,thing,cost\n1,a,2\n",
        b"thing,pieces\na,1\n",
        b"thing,pieces,cost\na,1\n",
        b"thing,pieces,cost\na,1,2,3\n",
        b"thing,pieces,cost\na,1.5,2\n",
        b"thing,pieces,cost\na,1,2\n\n",
        b"thing,pieces,cost\n\xff,1,2\n",
    ],
)
def test_anything_but_such_a_table_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_rows(tmp_path / "prices.csv", Price)


def test_what_the_csv_module_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes(b'thing,pieces,cost\n"' + b"a" * 2000 + b'",1,2\n')
    limit = csv.field_size_limit(1000)  # of the whole process; the text stages lift it
    try:
        with pytest.raises(ValueError, match="field larger than field limit"):
            read_rows(tmp_path / "prices.csv", Price)
    finally:
        csv.field_size_limit(limit)


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "gone.csv", Price)
