import errno
import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.documents import Document
from pipeline.text.sources.text_files import text_id
from tests.text.sources.text_bytes import (
    ANY_TEXT,
    csv_bytes,
    jsonl_bytes,
    parquet_bytes,
    read,
    read_members,
    zip_bytes,
)

TEXTS = ["One text.", 'Two, "quoted"\nlines.', "Drei Töne \u2028 in einem.", "A bell \a."]


WRITERS = {"csv": csv_bytes, "jsonl": jsonl_bytes, "parquet": parquet_bytes}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_tables(tmp_path: Path, kind: str, packed: bool) -> None:
    content = WRITERS[kind](["", *TEXTS, " \n"])
    path = tmp_path / (f"corpus.{kind}.gz" if packed else f"corpus.{kind}")
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert read(path) == TEXTS


@pytest.mark.parametrize("packed", [False, True])
def test_text_files(tmp_path: Path, packed: bool) -> None:
    content = "\ufeffOne line.\r\nTwo \u2028 lines.\n\n \nThree.\n\n\n\nNo end".encode()
    path = tmp_path / ("corpus.txt.gz" if packed else "corpus.txt")
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert read(path, "line") == ["One line.", "Two \u2028 lines.", "Three.", "No end"]
    assert read(path, "blank-line") == ["One line.\nTwo \u2028 lines.", "Three.", "No end"]


@given(texts=st.lists(ANY_TEXT), kind=st.sampled_from(sorted(WRITERS)))
def test_every_text_comes_back(texts: list[str], kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / f"corpus.{kind}"
    path.write_bytes(WRITERS[kind](texts))
    assert read(path) == [text for text in texts if text.strip()]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y/x.TXT", "c.jsonl", ".hidden/d.txt", "._e.txt", "README.md"):
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jsonl_bytes([name]) if name == "c.jsonl" else name.encode())
    assert read(tmp_path / "corpus") == ["a/y/x.TXT", "a/z.txt", "b.txt", "c.jsonl"]


def test_links_are_followed_once_and_what_is_not_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    for folder in (corpus, elsewhere / "deep"):
        folder.mkdir(parents=True)
    (corpus / "b.txt").write_text("b")
    (elsewhere / "deep" / "a.txt").write_text("a")
    (corpus / "part").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(corpus)
    assert read(corpus) == ["b", "a"]
    assert capsys.readouterr().err == ""
    for name in ("more.json", "old.zip", "y.txt.bz2", ".gitignore", "1.doc", "2.doc", "3.doc"):
        (corpus / name).touch()
    assert read(corpus) == ["b", "a"]
    told = capsys.readouterr().err
    assert f"warning: in {corpus} these are not read, as their names do not end in .txt, .csv" in told
    assert told.endswith(": 1.doc, 2.doc, 3.doc, more.json, old.zip and 1 more\n")


def test_equal_texts_share_an_id_and_others_do_not() -> None:
    assert text_id("One text.") == text_id("One text.") == "3638f28994bd454c"
    assert text_id("One text.") != text_id("one text.")


def test_a_lone_surrogate_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"body": "a \\ud800 b \\ud83d\\ude00 c"}\n\n{"body": null}\n')
    assert read(tmp_path / "corpus.jsonl") == ["a \ufffd b \U0001f600 c"]


LINES = "first line\n" * 5000  # more than a decoder's block, so that its own count of bytes would mislead


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, r"missing\.txt does not exist"),
        ("corpus.docx", b"text", r"corpus\.docx is of an unknown kind; expected a name that ends in \.txt, \.csv"),
        ("corpus.gz", gzip.compress(b"text", mtime=0), "unknown kind"),
        ("corpus.txt", LINES.encode() + b"ab\xff\n", r"corpus\.txt, line 5001 \(byte 55002\): not UTF-8"),
        ("corpus.txt", b"cut \xe2\x82", r"line 1 \(byte 4\): not UTF-8"),
        (
            "corpus.txt",
            "text".encode("utf-16"),
            r"line 1 \(byte 0\): UTF-16; convert it, say with iconv -f UTF-16 -t UTF-8",
        ),
        ("corpus.csv", b"body\nok\n\xe9\n", r"corpus\.csv, line 3 \(byte 8\): not UTF-8"),
        ("corpus.jsonl", b'{"body": "\xe9"}', r"line 1 \(byte 10\): not UTF-8"),
        ("corpus.txt.gz", gzip.compress(b"\xff", mtime=0), r"corpus\.txt\.gz, line 1 \(byte 0\): not UTF-8"),
        ("corpus.txt.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], r"corpus\.txt\.gz is not a whole gzip file"),
        ("corpus.txt.gz", b"never packed", "not a whole gzip file"),
        ("corpus.parquet.gz", gzip.compress(parquet_bytes(["a"]), mtime=0)[:-9], "not a whole gzip file"),
        ("corpus.csv", b"id,text\n1,a\n", "no column 'body' .*; it has: 'id', 'text'"),
        (
            "corpus.csv",
            b"id,body\n1,a\n2\n",
            "line 3: the row has 1 fields, the header 2; quote fields that hold commas",
        ),
        ("corpus.csv", b"body\na\rb\a\n", None),
        ("corpus.csv", b"body\nWell, no.\n", "line 2: the row has 2 fields, the header 1; quote"),
        (
            "corpus.csv",
            b'id,body\n1,"a ""b"""\n2,"a \\"b\\""\n',
            "line 3: not valid CSV: .*; in a quoted field, write a quote tw",
        ),
        ("corpus.csv", b"body,body\na,b\n", "2 columns are named 'body'; rename the others"),
        ("corpus.csv", zip_bytes({"a.csv": b"body\na\n"}), "is a zip archive, or a spreadsheet"),
        ("corpus.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "`git lfs pull`"),
        ("corpus.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "`git lfs pull`"),
        ("corpus.txt", "text\n".encode("utf-16-le"), "has NUL characters, as UTF-16 read as UTF-8 has"),
        ("corpus.jsonl", b'{"body": "a"}\n{"text": "b"}\n', "line 2: no column 'body' .*; it has: 'text'"),
        ("corpus.jsonl", b'{"body": "a"}\n{"body": \n', "line 2: not valid JSON"),
        ("corpus.jsonl", b'{"body":' + b"[" * 100_000, "line 1: not valid JSON"),
        ("corpus.jsonl", b"9" * 5000, "line 1: not valid JSON"),
        ("corpus.jsonl", b'{"body": "a"}\n["a"]\n', "line 2: expected a JSON object with 'body', got a JSON list"),
        (
            "corpus.jsonl",
            b'[{"body": "a"},\n{"body": "b"}]\n',
            r"is one JSON array; write an object a line, say with jq",
        ),
        ("corpus.jsonl", b'{"body": 7}\n', "line 1: 'body' holds 7, not a text"),
        ("corpus.parquet", parquet_bytes(["a"])[:-9], r"corpus\.parquet is not valid Parquet"),
        ("corpus.parquet", b"", "not valid Parquet"),
        ("corpus.parquet", parquet_bytes(pa.array([1])), "column 'body' holds int64, not text"),
        ("corpus.parquet", parquet_bytes(pa.array([b"a"])), "column 'body' holds binary, not text"),
    ],
)
def test_bad_input(tmp_path: Path, name: str, content: bytes | None, message: str | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    if message is None:
        assert read(path) == ["a", "b\a"]
        return
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_folder_without_text_files(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(InputError, match=r"empty corpus: no file below .* ends in \.txt, \.csv"):
        read(tmp_path)


def test_what_a_corpus_says_of_its_files_comes_with_the_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a <unk> b\n\nc\n")
    found = read_members(tmp_path / "a.txt", split="valid", tokenized=True)
    assert [(document.text, document.split, document.tokenized) for document in found] == [
        ("a <unk> b", "valid", True),
        ("c", "valid", True),
    ]
    (tmp_path / "b.csv").write_bytes(csv_bytes(["x"]))
    assert [document.text for document in read_members(tmp_path / "b.csv", text_column="id")] == ["0"]


def test_words_with_tags(tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text("\n\n\tThe/at and/or/cc ``/`` 1/2/cd odd ./.\n\n\tEnd/nn\n")
    (tmp_path / "ca02").write_text("Two/cd\n")
    assert read_members(tmp_path, format="word/tag", tokenized=True) == [
        Document("ca01", "The and/or `` 1/2 odd .\nEnd", None, True),
        Document("ca02", "Two", None, True),
    ]


def test_what_cannot_be_read_in_a_folder_is_named(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("text")
    for odd, make, said in (
        ("b.txt", lambda path: path.symlink_to("nowhere"), r"b\.txt is neither a file nor a link to one"),
        ("c.txt", lambda path: path.symlink_to("c.txt"), r"c\.txt is neither a file nor a link to one"),
        ("d.txt", os.mkfifo, r"d\.txt is neither a file nor a link to one"),
        ("caf\udce9.txt", Path.touch, r"caf\\xe9\.txt is not UTF-8; rename it"),
    ):
        make(corpus / odd)
        with pytest.raises(InputError, match=said):
            read(corpus)
        (corpus / odd).unlink()
    assert read(corpus) == ["text"]


def test_a_folder_that_several_links_lead_to_is_read_once(tmp_path: Path) -> None:
    for name in ("corpus", "elsewhere", "corpus/z"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("once")
    (tmp_path / "corpus/z/b.txt").write_text("here")
    for name, target in (("x", "../elsewhere"), ("y", "../elsewhere"), ("a", "z")):
        (tmp_path / "corpus" / name).symlink_to(target)
    assert read(tmp_path / "corpus") == ["once", "here"]


def test_a_folder_that_is_closed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scandir = str(tmp_path / "corpus/closed"), os.scandir
    Path(closed).mkdir(parents=True)
    (tmp_path / "corpus/a.txt").write_text("text")

    def listed(path: str):
        if path == closed:  # root, as whom CI runs, may list any folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)
    with pytest.raises(InputError, match=r"closed cannot be read: Permission denied"):
        read(tmp_path / "corpus")
