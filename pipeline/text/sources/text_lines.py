"""The lines of text files: UTF-8 and nothing else, none longer than a document may be."""

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

from pipeline.runtime.errors import InputError
from pipeline.text.sources.unpacking import TextFile

# Characters of a document, or of the row or line that it stands in: text8, 100 MB in one line, is one.
LONGEST_DOCUMENT = 100_000_000
LFS_POINTER = "version https://git-lfs.github.com/spec/"  # what a checkout without Git LFS has in a file's place
HTML = ("<!doctype html", "<html")

# Running text as an editor or Project Gutenberg wraps it: almost every line is full, and few end a sentence.
LOOKED_AT = 2000  # lines at the beginning of a file
FEWEST_FULL = 20  # lines, and so many blank lines
WIDTHS = range(40, 121)
SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"', ".”", "!”", "?”")


def text_lines(file: TextFile, newline: str | None = None) -> Iterator[str]:
    """The lines of a file in UTF-8 (a byte order mark is not text), with their ends.

    Args:
        newline: as `open` takes it.

    Raises:
        InputError: a byte is not UTF-8, or a line is longer than a document may be.
    """
    number = 0
    try:
        with file.open() as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline=newline) as lines:
            while line := lines.readline(LONGEST_DOCUMENT + 1):
                number += 1
                if len(line) > LONGEST_DOCUMENT:
                    raise too_long(file, number)
                if number == 1:
                    _check_first_line(line, file)
                yield line
    except UnicodeDecodeError:
        with file.open() as raw:
            wide = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        told = "UTF-16" if wide else "not UTF-8"
        how = "iconv -f UTF-16 -t UTF-8" if wide else "iconv"
        raise InputError(f"{file}{_place_of_first_bad_byte(file)}: {told}; convert it, say with {how}") from None


def _check_first_line(line: str, file: TextFile) -> None:
    if line.startswith(LFS_POINTER):
        raise InputError(f"{file} is what Git LFS has in place of the text; fetch that with `git lfs pull`")
    if line.lstrip().lower().startswith(HTML):
        file.remarks.warn("HTML, whose markup will be learned as text; take its text out first", str(file))


def _place_of_first_bad_byte(file: TextFile) -> str:
    """A decoder counts from the start of its own block, which tells a reader nothing: look for the byte again."""
    offset = 0
    with file.open() as raw:
        # What is longer than this was found too long before its first bad byte.
        for number, line in enumerate(iter(lambda: raw.readline(4 * LONGEST_DOCUMENT), b""), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f", line {number} (byte {offset + error.start})"
            offset += len(line)
    return ""


def is_wrapped(file: TextFile) -> bool:
    """Whether a file is running text whose lines were broken at a width, so that a line is no unit of it.

    Then the first word of a line would not have fitted onto the line before, which seldom ends a sentence.
    """
    lines: list[str] = []
    for line in islice(text_lines(file), LOOKED_AT):
        lines.append(line.rstrip())
        if len(line) > 10 * WIDTHS.stop:
            return False
    pairs = [(line, after) for line, after in pairwise(lines) if line and after]
    lengths = sorted(len(line) for line, _ in pairs)
    width = lengths[int(0.95 * len(lengths))] if lengths else 0  # a line that is longer, a URL say, may be there
    full = [line for line, after in pairs if len(line) + 1 + len(after.split()[0]) > width]
    ending = [line for line in full if line.endswith(SENTENCE_ENDS)]
    return (
        width in WIDTHS
        and min(len(full), lines.count("")) >= FEWEST_FULL
        and len(full) > 0.9 * len(pairs)
        and len(ending) < 0.25 * len(full)
    )


def joined(lines: Iterable[str], file: TextFile) -> str:
    """One text of many lines; in a list, short ones would take ten times their size."""
    text = io.StringIO()
    for line in lines:
        text.write(line)
        if text.tell() > LONGEST_DOCUMENT:
            raise too_long(file)
    return text.getvalue()


def too_long(file: TextFile, line: int | None = None) -> InputError:
    """The error of a document that is longer than any may be, or of the row or line that it stands in."""
    where = "" if line is None else f", line {line}"
    return InputError(
        f"{file}{where}: a document, or its row, has more than {LONGEST_DOCUMENT:,} characters; cut it into several"
    )
