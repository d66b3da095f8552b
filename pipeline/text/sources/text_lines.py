"""The lines of text files: UTF-8 and nothing else, none longer than a document may be."""

import codecs
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from pipeline.runtime.errors import InputError
from pipeline.text.sources.unpacking import TextFile

# Characters of a document, or of the row or line that it stands in: text8, 100 MB in one line, is one.
LONGEST_DOCUMENT = 100_000_000
LFS_POINTER = "version https://git-lfs.github.com/spec/"  # what a checkout without Git LFS has in a file's place
MARK = "\ufeff"
PDF = b"%PDF-"
# What files begin with that are no plain text; HTML may begin in one of the first lines.
HTML_LINES = 20
MARKUP_STARTS = {"<!doctype html": "HTML", "<html": "HTML", "<head>": "HTML", "<body": "HTML"}
MARKUP_STARTS |= {"<?xml": "XML", "{\\rtf": "RTF", PDF.decode().lower(): "PDF"}

# Running text as an editor or Project Gutenberg wraps it: almost every line is full, and few end a sentence.
LOOKED_AT = 2000  # lines at the beginning of a file
FEWEST_FULL = 20  # lines, and so many blank lines
WIDTHS, ODD_WIDTHS = range(40, 121), range(25, 201)
SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"', ".”", "!”", "?”", "。", "！", "？", "。」", "。”")
MOSTLY = 0.7  # of the width: a line is full only from there on, however long the next word is
QUOTED = "> \t\u3000"  # what stands before the words of a line: quotation marks of mails, indentation


def text_lines(file: TextFile, newline: str | None = None) -> Iterator[str]:
    """The lines of a file in UTF-8, with their ends; no line begins with a byte order mark, as joined files have.

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
                line = line.lstrip(MARK)
                if number <= HTML_LINES:
                    _check_markup(line, number, file)
                yield line
    except UnicodeDecodeError:
        with file.open() as raw:
            start = raw.read(len(PDF))
        if start == PDF:
            raise InputError(f"{file}: PDF, not text; take its text out first, say with pdftotext") from None
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        told = "UTF-16" if wide else "not UTF-8"
        how = "iconv -f UTF-16 -t UTF-8" if wide else "iconv"
        raise InputError(f"{file}{_place_of_first_bad_byte(file)}: {told}; convert it, say with {how}") from None


def _check_markup(line: str, number: int, file: TextFile) -> None:
    """Refuse or tell what is no plain text, by one of its first lines."""
    if number == 1 and line.startswith(LFS_POINTER):
        raise InputError(f"{file} is what Git LFS has in place of the text; fetch that with `git lfs pull`")
    begins = line[:LOOKED_AT].lstrip().lower()
    for start, kind in MARKUP_STARTS.items():
        if begins.startswith(start) and (number == 1 or kind == "HTML"):
            file.remarks.warn(f"{kind}, whose markup will be learned as text; take its text out first", str(file))


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


def first_lines(file: TextFile) -> list[str]:
    """The first lines, as `is_wrapped` and `looks_wrapped` want them; none where one is far too long for that."""
    lines: list[str] = []
    for line in islice(text_lines(file), LOOKED_AT):
        lines.append(line.rstrip())
        if len(line) > 10 * WIDTHS.stop:
            return []
    return lines


def is_wrapped(lines: Sequence[str]) -> bool:
    """Whether these are running text whose lines were broken at a width, so that a line is no unit of it.

    Then the first word of a line would not have fitted onto the line before, which seldom ends a sentence.
    """
    pairs = [(line, after) for line, after in pairwise(lines) if line and after]
    width = _width([line for line, _ in pairs])
    full = [line for line, after in pairs if len(line) + 1 + len(after.split()[0]) > width]
    ending = [line for line in full if line.endswith(SENTENCE_ENDS)]
    return (
        width in WIDTHS
        and min(len(full), lines.count("")) >= FEWEST_FULL
        and len(full) > 0.9 * len(pairs)
        and len(ending) < 0.25 * len(full)
    )


def looks_wrapped(lines: Sequence[str]) -> bool:
    """Whether these may be running text of another shape, whose paragraphs nobody can tell for sure.

    Without blank lines, or with one behind every line; indented or quoted, as mails are; with words that are cut at
    hyphens; narrow or wide.
    """
    if lines.count("") > 0.9 * sum(map(bool, lines)):
        lines = [line for line in lines if line]
    pairs = [(line, words) for line, after in pairwise(lines) if line.strip(QUOTED) and (words := after.strip(QUOTED))]
    width = _width([line for line, _ in pairs])
    full = short = ending = 0
    for line, words in pairs:
        next_word = words.split()[0]
        is_full = line.endswith(("-", "\u00ad")) or len(line) + 1 + len(next_word) > width
        ends = line.endswith(SENTENCE_ENDS)
        # Where a word takes half a line, as in a script without spaces, a full line shows nothing.
        if len(line) > MOSTLY * width and is_full and 2 * len(next_word) < width:
            full, ending = full + 1, ending + ends
        elif not ends:  # the end of a paragraph is short
            short += 1
    return (
        width in ODD_WIDTHS
        and full >= max(FEWEST_FULL, len(pairs) / 2)
        and short < 0.1 * len(pairs)
        and ending < 0.25 * full
    )


def _width(lines: Sequence[str]) -> int:
    """That of nearly all lines: one that is longer, a URL say, may be there; 0 without lines."""
    lengths = sorted(map(len, lines))
    return lengths[int(0.95 * len(lengths))] if lengths else 0


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
