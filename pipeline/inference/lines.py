"""Lines of a file or a pipe, as they come, so that the first is answered at once and millions fill no memory."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path
from tempfile import TemporaryFile
from typing import cast

from pipeline.runtime.errors import InputError
from pipeline.text.marks import holds_marks, tokens_of
from pipeline.text.sentences import SentenceSplitter

PART_BYTES = 1 << 18  # that are read at most before they are answered: some forward passes
BOM = "\ufeff"


@contextmanager
def opened(file: str, twice: bool = False) -> Iterator[tuple[BufferedIOBase, str]]:
    """A file, or standard input for `-`, and its name in messages.

    With `twice` it will be sought and read again, so a pipe is copied first.

    Raises:
        InputError: there is no such file.
    """
    with ExitStack() as held:
        try:
            source = (
                cast(BufferedIOBase, sys.stdin.buffer) if file == "-" else held.enter_context(Path(file).open("rb"))
            )
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(f"{file} is not a file; name one with a sentence per line") from None
        if twice and not source.seekable():
            copy = held.enter_context(TemporaryFile())
            shutil.copyfileobj(source, copy)
            copy.seek(0)
            source = copy
        yield source, "standard input" if file == "-" else file


def parts_of(source: BufferedIOBase, name: str, tokenized: bool = False) -> Iterator[list[str]]:
    """The lines of `source` without their ends, in parts: whatever has come, at most `PART_BYTES` and a line.

    `name` is that of messages.

    Raises:
        InputError: a line is not UTF-8, or is said to be `tokenized` and has what is no token; those before it have
            been given.
    """
    number, rest = 1, b""  # of the first line that has not been given: its number and beginning
    while True:
        read = source.read1(PART_BYTES)
        whole, end, rest = (rest + read).rpartition(b"\n") if read else (rest, b"", b"")
        raw = (whole + end).split(b"\n")
        if not raw[-1]:
            raw.pop()
        lines = []
        for line in raw:
            try:
                text = line.removesuffix(b"\r").decode().removeprefix(BOM if number == 1 else "")
                if tokenized:
                    tokens_of(text)
            except (UnicodeDecodeError, InputError) as error:
                if lines:
                    yield lines
                if isinstance(error, InputError):
                    raise InputError(f"{name}, line {number}: {error}") from None
                where = f"line {number}, its byte {error.start + 1}"
                raise InputError(f"{name} is not UTF-8 ({where}); save it as UTF-8") from None
            lines.append(text)
            number += 1
        if lines:
            yield lines
        if not read:
            return


class OddLines:
    """Notes lines that hold more than one sentence, by Punkt's English model, or marks such as <unk>.

    Between sentences a model expects SENTENCE_END, and the tokenizer leaves a period on its word unless it is the last.
    Marks stand in text that is tokenized already, and the tokenizer takes them apart.
    """

    def __init__(self) -> None:
        self._splitter = SentenceSplitter("english")
        self._lines = self._found = self._first = self._sentences = self._marked = 0

    def looking(self, parts: Iterable[list[str]]) -> Iterator[list[str]]:
        """The same parts, looked at as they go by."""
        for lines in parts:
            for line in lines:
                self._lines += 1
                if not self._marked and holds_marks(line):
                    self._marked = self._lines
                sentences = len(self._splitter.split(line))
                self._found += sentences > 1
                if sentences > 1 and not self._first:
                    self._first, self._sentences = self._lines, sentences
            yield lines

    def remark(self) -> str | None:
        """On the lines so far; None: each holds one sentence at most, and no mark."""
        if self._marked:
            return (
                f"remark: line {self._marked} holds a mark such as <unk>, as text has that is tokenized already; if "
                "this is, --tokenized reads it as it stands"
            )
        if not self._found:
            return None
        more = self._found - 1
        others = f", and {more:,} other {'line holds' if more == 1 else 'lines hold'} several" if more else ""
        return (
            f"remark: line {self._first} holds {self._sentences} sentences{others}; models learn single sentences, so "
            "these lines look less likely than they are: put each sentence on a line of its own"
        )
