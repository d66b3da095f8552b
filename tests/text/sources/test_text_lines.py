"""Lines of text: what is no text is left out or told, and lines that an editor wrapped are known."""

import random
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.remarks import Remarks
from pipeline.text.params import SourceFile
from pipeline.text.sources.text_files import file_documents
from tests.text.sources.text_bytes import download_params, read

WORDS = ["the", "a", "of", "some", "when", "little", "garden", "yesterday", "house", "remembered", "extraordinary"]


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_byte_order_marks_and_record_separators_are_no_text(mark: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.ndjson").write_text(f'\x1e{{"body": "{mark}one"}}\n\x1e{{"body": "two{mark}"}}\r\n\n\x1e\n')
    assert read(tmp_path / "corpus.ndjson") == ["one", "two"]
    (tmp_path / "joined.jsonl").write_text(f'{mark}{{"body": "one"}}\n{mark}{mark}{{"body": "two"}}\n')
    assert read(tmp_path / "joined.jsonl") == ["one", "two"]
    (tmp_path / "joined.csv").write_text(f'{mark}body,id\n"one",1\n{mark}"two",2\n')
    assert read(tmp_path / "joined.csv") == ["one", "two"]
    (tmp_path / "corpus.txt").write_text(f"{mark}one\n{mark}two\n{mark}\n")
    assert read(tmp_path / "corpus.txt") == ["one", "two"]


@pytest.mark.parametrize(
    ("lines", "kinds"),
    [
        (["<!DOCTYPE html>", "<p>text"], ["HTML"]),
        (["Saved from a page", "", "  <HTML lang=en>", "<p>text"], ["HTML"]),
        (["<?xml version='1.0'?>", "<html>"], ["XML", "HTML"]),
        ([*["A line."] * 30, "<html>"], []),
        (["{\\rtf1\\ansi", "text}"], ["RTF"]),
        (["%PDF-1.4", "text"], ["PDF"]),
        (["A line about <html>", "{\\em} text", "%PDF- is how it begins"], []),
    ],
)
def test_markup_gets_a_warning(lines: list[str], kinds: list[str], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    number, told = read_with_remarks(tmp_path / "corpus.txt", "auto")
    assert number == len([line for line in lines if line])
    file = tmp_path / "corpus.txt"
    assert [warning.partition(", whose markup will be learned as text")[0] for warning in told] == [
        f"{file}: {kind}" for kind in kinds
    ]


def test_a_pdf_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    with pytest.raises(InputError, match=r"corpus\.txt: PDF, not text; take its text out first, say with pdftotext$"):
        read(tmp_path / "corpus.txt")


def sentences(chance: random.Random, number: int) -> list[str]:
    return [" ".join(chance.choices(WORDS, k=chance.randint(3, 25))).capitalize() + "." for _ in range(number)]


def paragraphs(seed: int, number: int, fewest: int, most: int) -> list[str]:
    """Of `fewest` to `most` sentences each."""
    chance = random.Random(seed)
    return [" ".join(sentences(chance, chance.randint(fewest, most))) for _ in range(number)]


def read_with_remarks(path: Path, txt_documents: str) -> tuple[int, list[str]]:
    remarks = Remarks()
    params = download_params(txt_documents=txt_documents)
    found = list(file_documents(path, "", SourceFile(url="x"), params, remarks=remarks))
    return len(found), remarks.warnings


@given(seed=st.integers(0, 1 << 30), width=st.integers(50, 100), title=st.booleans())
def test_wrapped_text_is_read_in_paragraphs_or_warned_of(
    seed: int, width: int, title: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocks, path = paragraphs(seed, 40, 3, 6), tmp_path_factory.mktemp("any") / "book.txt"
    head = "*** A line that is longer than any other: " + "x" * 120 + "\n" if title else ""
    path.write_text(head + "\n\n".join(textwrap.fill(block, width) for block in blocks))
    number, told = read_with_remarks(path, "auto")
    assert number == 40
    assert [warning.partition(": ")[2][:12] for warning in told] == ["running text"]
    number, told = read_with_remarks(path, "line")
    assert number > 80
    assert "set download.txt_documents to `auto`" in told[0]
    assert read_with_remarks(path, "blank-line") == (40, [])


def hyphenated(text: str, width: int) -> str:
    """Cut anywhere, with hyphens inside words, as in a printed book."""
    lines, place = [], 0
    while place < len(text):
        line = text[place : place + width]
        inside = text[place + width : place + width + 1].isalpha() and line[-1].isalpha()
        lines.append(line + "-" * inside)
        place += width
    return "\n".join(line.strip() for line in lines)


SHAPES = {
    "without blank lines": lambda blocks, width: "\n".join(textwrap.fill(block, width) for block in blocks),
    "indented": lambda blocks, width: "\n".join(textwrap.fill(block, width, initial_indent="    ") for block in blocks),
    "quoted": lambda blocks, width: "\n>\n".join(
        textwrap.fill(block, width, initial_indent="> ", subsequent_indent="> ") for block in blocks
    ),
    "double-spaced": lambda blocks, width: "\n\n".join("\n\n".join(textwrap.wrap(block, width)) for block in blocks),
    "hyphenated": lambda blocks, width: "\n\n".join(hyphenated(block, width) for block in blocks),
    "few": lambda blocks, width: "\n\n".join(textwrap.fill(block, width) for block in blocks[:8]),
}


@given(seed=st.integers(0, 1 << 30), width=st.integers(35, 180), shape=st.sampled_from(sorted(SHAPES)))
def test_wrapped_text_of_other_shapes_is_warned_of(
    seed: int, width: int, shape: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocks, path = paragraphs(seed, 18, 12, 24), tmp_path_factory.mktemp("any") / "book.txt"
    path.write_text(SHAPES[shape](blocks, width))
    for txt_documents in ("auto", "line"):
        _, told = read_with_remarks(path, txt_documents)
        assert len(told) == 1, shape
        assert "it looks like running text whose lines were broken" in told[0]


@given(seed=st.integers(0, 1 << 30), blank=st.sampled_from([0, 2, 5]), one_length=st.booleans())
def test_a_document_a_line_stays_that(
    seed: int, blank: int, one_length: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    lines = sentences(chance, 200)
    if one_length:
        lines = [(line * 40)[:70].rstrip() + "." for line in lines]
    path = tmp_path_factory.mktemp("any") / "comments.txt"
    path.write_text("".join(line + ("\n\n" if blank and not n % blank else "\n") for n, line in enumerate(lines)))
    assert read_with_remarks(path, "auto") == (200, [])


def test_a_line_of_any_length_is_looked_at_in_passing(tmp_path: Path) -> None:
    (tmp_path / "text8.txt").write_text("word " * 400_000)
    assert read_with_remarks(tmp_path / "text8.txt", "auto") == (1, [])
