"""Lines of text: what is no text is left out or told, and lines that an editor wrapped are known."""

import random
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.remarks import Remarks
from pipeline.text.params import SourceFile
from pipeline.text.sources.text_files import file_documents
from tests.text.sources.text_bytes import download_params, read

WORDS = ["the", "a", "of", "some", "when", "little", "garden", "yesterday", "house", "remembered", "extraordinary"]


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_byte_order_marks_and_record_separators_are_no_text(mark: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.ndjson").write_text(f'\x1e{{"body": "{mark}one"}}\n\x1e{{"body": "two{mark}"}}\r\n\n\x1e\n')
    assert read(tmp_path / "corpus.ndjson") == ["one", "two"]
    (tmp_path / "corpus.txt").write_text(f"{mark}one\n{mark}two\n{mark}\n")
    assert read(tmp_path / "corpus.txt") == ["one", "two"]


def test_html_gets_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus.txt").write_text("<!DOCTYPE html>\n<p>text\n")
    assert read(tmp_path / "corpus.txt") == ["<!DOCTYPE html>", "<p>text"]
    assert "corpus.txt: HTML, whose markup will be learned as text" in capsys.readouterr().err


def sentences(chance: random.Random, number: int) -> list[str]:
    return [" ".join(chance.choices(WORDS, k=chance.randint(3, 25))).capitalize() + "." for _ in range(number)]


def read_with_remarks(path: Path, txt_documents: str) -> tuple[int, list[str]]:
    remarks = Remarks()
    params = download_params(txt_documents=txt_documents)
    found = list(file_documents(path, "", SourceFile(url="x"), params, remarks=remarks))
    return len(found), remarks.warnings


@given(seed=st.integers(0, 1 << 30), width=st.integers(50, 100), title=st.booleans())
def test_wrapped_text_is_read_in_paragraphs_or_warned_of(
    seed: int, width: int, title: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    blocks = [" ".join(sentences(chance, chance.randint(3, 6))) for _ in range(40)]
    path = tmp_path_factory.mktemp("any") / "book.txt"
    head = "*** A line that is longer than any other: " + "x" * 120 + "\n" if title else ""
    path.write_text(head + "\n\n".join(textwrap.fill(block, width) for block in blocks))
    number, told = read_with_remarks(path, "auto")
    assert number == 40
    assert [warning.partition(": ")[2][:12] for warning in told] == ["running text"]
    number, told = read_with_remarks(path, "line")
    assert number > 80
    assert "set download.txt_documents to `auto`" in told[0]
    assert read_with_remarks(path, "blank-line") == (40, [])


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
