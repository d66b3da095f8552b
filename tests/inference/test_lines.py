"""Lines as they come: parts, line ends, bytes that are no text, and remarks."""

import os
import threading
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path

import pytest

from pipeline.inference import lines as module
from pipeline.inference.lines import OddLines, opened, parts_of
from pipeline.runtime.errors import InputError


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_whatever_parts_they_come_in(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", size)
    for raw, expected in (
        ("\ufeffThé cat\r\n\r\n\n a\rb \u2028\nlast", ["Thé cat", "", "", " a\rb \u2028", "last"]),
        ("one\n", ["one"]),
        ("one\n\n", ["one", ""]),
        ("", []),
    ):
        assert [line for part in parts_of(BytesIO(raw.encode()), "-") for line in part] == expected


class Typed(RawIOBase):
    """A pipe into which something is written now and then."""

    def __init__(self, *written: bytes) -> None:
        self.left = list(written)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        written = self.left.pop(0) if self.left else b""
        buffer[: len(written)] = written
        return len(written)


def test_a_line_is_given_before_the_next_one_is_written() -> None:
    pipe = Typed(b"a\nb", b"c", b"d\n")
    parts = parts_of(BufferedReader(pipe), "-")
    assert next(parts) == ["a"]
    assert pipe.left == [b"c", b"d\n"]
    assert list(parts) == [["bcd"]]


@pytest.mark.parametrize("size", [2, 1000])
def test_what_is_not_utf8_is_named_by_line_and_byte_after_the_lines_before_it(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", size)
    parts = parts_of(BytesIO(b"\xc3\xa9\na\nb\xff\n"), "x.txt")
    given = [*next(parts)]
    if size == 2:
        given += next(parts)
    assert given == ["é", "a"]
    with pytest.raises(InputError, match=r"^x\.txt is not UTF-8 \(line 3, its byte 2\); save it as UTF-8$"):
        next(parts)


def test_a_pipe_is_copied_where_it_is_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[b"a\nb\n"])
    writer.start()
    with opened(str(tmp_path / "pipe"), twice=True) as (source, name):
        assert name == str(tmp_path / "pipe")
        writer.join()
        assert source.read() == b"a\nb\n"
        source.seek(0)
        assert source.read() == b"a\nb\n"


def test_a_mark_in_tokenized_text_is_named_by_its_line_after_the_lines_before_it() -> None:
    raw = b"the <unk>\nthe cat </s>\n"
    assert list(parts_of(BytesIO(raw), "x.txt")) == [["the <unk>", "the cat </s>"]]
    parts = parts_of(BytesIO(raw), "x.txt", tokenized=True)
    assert next(parts) == ["the <unk>"]
    with pytest.raises(InputError, match=r"^x\.txt, line 2: </s> is no word of tokenized text; give each sentence a "):
        next(parts)


def remark(lines: list[str]) -> str | None:
    odd = OddLines()
    assert [line for part in odd.looking([lines[:1], lines[1:]]) for line in part] == lines
    return odd.remark()


def test_lines_of_several_sentences_get_one_remark() -> None:
    assert remark(["Dr. Smith sat on a mat. The cat did."] * 3 + ["The cat sat.", ""]) == (
        "remark: line 1 holds 2 sentences, and 2 other lines hold several; models learn single sentences, so these "
        "lines look less likely than they are: put each sentence on a line of its own"
    )
    assert remark(["Dr. Smith sat on a mat.", "the cat"]) is None


def test_lines_with_marks_of_tokenized_text_get_one_remark() -> None:
    assert remark(["the cat", "the <unk> sat", "a <unk>"]) == (
        "remark: line 2 holds a mark such as <unk>, as text has that is tokenized already; if this is, --tokenized "
        "reads it as it stands"
    )
