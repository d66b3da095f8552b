"""Rows of one author and texts of one folder share an id, so that splits and error bars keep them together."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text.documents import Document
from pipeline.text.encoded import load_documents
from pipeline.text.encoding import encode_tokens
from pipeline.text.params import DownloadParams, SourceFile, TokenizeParams
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.sources.text_files import file_documents, text_id
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens
from tests.text.sources.text_bytes import download_params
from tests.text.token_files import WORDS

ROWS = [("One.", "ann"), ("Two.", "bob"), ("Three.", "ann"), ("Four.", ""), ("Five.", " "), ("Six.", None)]


def csv_table(rows: list[tuple]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([["body", "author"], *rows])
    return file.getvalue().encode()


def jsonl_table(rows: list[tuple]) -> bytes:
    return "".join(json.dumps({"author": author, "body": text}) + "\n" for text, author in rows).encode()


def parquet_table(rows: list[tuple]) -> bytes:
    file = io.BytesIO()
    texts, authors = zip(*rows, strict=True)
    pq.write_table(pa.table({"author": list(authors), "body": list(texts)}), file)  # not in the order asked for
    return file.getvalue()


TABLES = {"csv": csv_table, "jsonl": jsonl_table, "parquet": parquet_table}


def documents(path: Path, params: DownloadParams, **source: object) -> list[Document]:
    return list(file_documents(path, "", SourceFile.model_validate({"url": "x", **source}), params))


@pytest.mark.parametrize("kind", TABLES)
def test_rows_of_one_value_share_an_id_and_an_empty_value_is_no_group(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"corpus.{kind}"
    path.write_bytes(TABLES[kind](ROWS))
    for found in (
        documents(path, download_params(group_column="author")),
        documents(path, download_params(), group_column="author"),
        documents(path, download_params(group_column="other"), group_column="author"),
    ):
        assert [document.text for document in found] == [text for text, _ in ROWS]
        ann, bob, again, *alone = (document.id for document in found)
        assert ann == again != bob
        assert alone == [text_id(text) for text, _ in ROWS[3:]]
        assert "ann" not in ann  # nobody's name stands there
    assert [document.id for document in documents(path, download_params())] == [text_id(text) for text, _ in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_name_groups_as_their_digits_do(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"corpus.{kind}"
    path.write_bytes(TABLES[kind]([("One.", 7), ("Two.", 8), ("Three.", 7), ("Four.", None)]))
    numbers = [document.id for document in documents(path, download_params(group_column="author"))]
    (tmp_path / "corpus.csv").write_bytes(csv_table([("One.", 7), ("Two.", 8), ("Three.", 7), ("Four.", None)]))
    digits = [document.id for document in documents(tmp_path / "corpus.csv", download_params(group_column="author"))]
    assert numbers == digits
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("kind", TABLES)
def test_a_missing_column_of_groups_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"corpus.{kind}"
    path.write_bytes(TABLES[kind](ROWS))
    with pytest.raises(InputError) as error:
        documents(path, download_params(group_column="thread"))
    assert str(error.value).startswith(str(path))
    assert "no column 'thread' (download.group_column in params.yaml); it has: " in str(error.value)
    assert "\n" not in str(error.value)


def test_values_that_name_no_group_are_refused(tmp_path: Path) -> None:
    params = download_params(group_column="author")
    (tmp_path / "a.jsonl").write_bytes(jsonl_table([("One.", ["ann"])]))
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: 'author' holds \[\"ann\"\], not a text or a number"):
        documents(tmp_path / "a.jsonl", params)
    (tmp_path / "a.parquet").write_bytes(parquet_table([("One.", 1.5)]))
    with pytest.raises(InputError, match=r"a\.parquet: column 'author' holds double, not text"):
        documents(tmp_path / "a.parquet", params)
    (tmp_path / "a.csv").write_text("body,author\nOne.,ann\nTwo.\n")
    with pytest.raises(InputError, match=r"a\.csv, line 3: the row has 1 fields, the header 2"):
        documents(tmp_path / "a.csv", params)


def test_texts_of_one_folder_share_an_id_but_a_column_of_groups_comes_first(tmp_path: Path) -> None:
    for name, content in (
        ("a/one.txt", b"One.\nTwo."), ("a/two.txt", b"Three."), ("a/b/three.txt", b"Four."), ("top.txt", b"Five."),
        ("a/table.csv", csv_table([("Six.", "ann"), ("Seven.", "")])),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = documents(tmp_path, download_params(group_by_folder=True, group_column="author"))
    ids = {document.text: document.id for document in found}
    ann = ids.pop("Six.")
    assert ids == {"One.": "a", "Two.": "a", "Three.": "a", "Four.": "a/b", "Five.": ".", "Seven.": "a"}
    assert ann not in ids.values()


def test_groups_stay_together_in_splits_and_in_what_intervals_draw(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    # Forty rows of each of twelve authors, in turn.
    path.write_bytes(csv_table([(f"this is {row} .", f"author {row % 12}") for row in range(480)]))
    found = documents(path, download_params(group_column="author"))
    params = TokenizeParams.model_validate(
        {"language": "english", "lowercase": True, "deduplicate": True, "splits": {"train": 1, "valid": 1, "test": 1}}
    )
    write_tokens(found, SentenceSplitter("english"), Tokenizer(True), params, tmp_path / "tokens.parquet", 1, Bar())
    rows = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    splits: dict[int, set[str]] = {}
    for row in rows:
        splits.setdefault(int(row["tokens"][2]) % 12, set()).add(row["split"])
    assert len(rows) == 480
    assert all(len(of_author) == 1 for of_author in splits.values())
    encode_tokens(tmp_path / "tokens.parquet", WORDS, tmp_path, 1, Bar())
    tested = [int(row["tokens"][2]) % 12 for row in rows if row["split"] == "test"]
    drawn = load_documents(tmp_path / "test", len(tested))
    assert drawn is not None
    authors = list(dict.fromkeys(tested))
    assert drawn.tolist() == [authors.index(author) for author in tested]
    assert 1 < len(authors) < 12


def test_a_report_says_what_counts_as_one_document() -> None:
    assert download_params().together is None
    assert download_params(group_column="author", group_by_folder=True).together == (
        "Groups: rows of a table with the same 'author' and texts of one folder count as one document here."
    )
    own = download_params().model_copy(
        update={
            "source": "mine",
            "sources": {"mine": [SourceFile(url="x", group_column="thread"), SourceFile(url="y")]},
        }
    )
    assert own.together == "Groups: rows of a table with the same 'thread' count as one document here."
    values = download_params(group_by_folder=True).model_dump() | {"source": "installed-docs"}
    assert DownloadParams.model_validate(values).together == (
        "Groups: modules of one package count as one document here."
    )
    with pytest.raises(ValueError, match="are modules and have no columns; use group_by_folder"):
        DownloadParams.model_validate(values | {"group_column": "author"})
