"""Tables: whatever a column holds comes back, and what is odd is refused."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.params import SourceFile
from pipeline.text.sources.text_files import file_documents
from tests.text.sources.text_bytes import ANY_TEXT, csv_bytes, download_params, parquet_bytes, read


def test_the_tutorials_comments_are_read_as_pythons_csv_module_does(shared_data: Path) -> None:
    path = shared_data / "reddit-comments-sample.csv"
    with path.open(encoding="utf-8", newline="") as file:
        expected = [row["body"] for row in csv.DictReader(file)]
    assert read(path) == expected
    assert len(expected) == 212
    assert any("\n" in text for text in expected)


def test_a_long_field(tmp_path: Path) -> None:
    text = "word " * 100_000
    (tmp_path / "corpus.csv").write_bytes(csv_bytes([text]))
    assert read(tmp_path / "corpus.csv") == [text]


@given(
    rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT.filter(str.strip)), min_size=1),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    named=st.booleans(),
)
def test_any_delimiter_is_found(
    rows: list[tuple[str, str]], delimiter: str, named: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / ("corpus.tsv" if delimiter == "\t" else "corpus.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"sep={delimiter}\r\n" if named else "")
        csv.writer(file, delimiter=delimiter).writerows([("id", "body"), *rows])
    assert read(path) == [text for _, text in rows]


@given(
    rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT.filter(str.strip)), min_size=1),
    delimiter=st.characters(exclude_categories=["Cs"], exclude_characters='"\r\n\0\ufeff'),
    kind=st.sampled_from(["csv", "tsv"]),
)
def test_any_delimiter_may_be_named(
    rows: list[tuple[str, str]], delimiter: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"corpus.{kind}"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("id", "body"), *rows])
    for params, source in ((delimiter, {}), ("auto", {"delimiter": delimiter})):
        settings = SourceFile.model_validate({"url": "x", **source})
        found = file_documents(path, "", settings, download_params(delimiter=params))
        assert [document.text for document in found] == [text for _, text in rows]


def test_a_table_that_was_cut_keeps_the_beginning_of_its_last_row(tmp_path: Path) -> None:
    (tmp_path / "corpus.csv").write_text('id,body\n1,"one, two"\n2,"three\nfour, ""five')
    assert read(tmp_path / "corpus.csv") == ["one, two", 'three\nfour, "five']


def test_parquet_text_of_other_layouts(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(pa.array(["a", None, "b"]).cast(kind)))
        assert read(tmp_path / "corpus.parquet") == ["a", "b"]


def test_a_missing_parquet_column(tmp_path: Path) -> None:
    (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(["a"]))
    with pytest.raises(InputError, match=r"no column 'text' .*; it has: 'id', 'body'"):
        read(tmp_path / "corpus.parquet", text_column="text")


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    damaged = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xff"]).buffers()[1:]])
    (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(damaged))
    with pytest.raises(InputError, match="column 'body' is not UTF-8"):
        read(tmp_path / "corpus.parquet")


ROWS = "".join(f"{number},row {number}\n" for number in range(9))


@pytest.mark.parametrize(
    "table",
    [
        f'id,body\n0,"closed"\n1,"open\n{ROWS}',
        f'id,body\n1,"open\n{ROWS}',
        'body\nfirst\n"open\nanother\n',
    ],
)
def test_an_open_quote_takes_no_rows_along(tmp_path: Path, table: str) -> None:
    (tmp_path / "corpus.csv").write_text(table)
    line = 1 + next(number for number, text in enumerate(table.split("\n")) if "open" in text)
    with pytest.raises(InputError, match=rf"corpus.csv, line {line}: nothing closes a quote, .* look like rows"):
        read(tmp_path / "corpus.csv")


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"body": "real text", "body": "x"}\n')
    with pytest.raises(InputError, match=r"line 1: not valid JSON: the key 'body' is there twice"):
        read(tmp_path / "corpus.jsonl")
