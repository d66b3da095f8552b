"""Files of text: one, every file of a known kind below a folder, or members of a zip or tar archive.

Everything is read as a stream (except `.parquet.gz`, which has to be unpacked whole), so memory does not grow with the
corpus, and nothing is ever unpacked to disk. An error names the file and, where there is one, the line.
"""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any, TextIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line
from pipeline.runtime.settings import allow_long_csv_fields
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile

KINDS = (".txt", ".csv", ".jsonl", ".parquet")
KNOWN = f"{', '.join(KINDS)}, or one of these and .gz"
# By suffix: fsspec's name of the kind, and how it is packed, which fsspec would guess of some suffixes only.
ARCHIVES: dict[str, tuple[str, dict[str, Any]]] = {
    ".zip": ("zip", {}),
    ".tar": ("tar", {}),
    ".tar.gz": ("tar", {"compression": "gzip"}),
    ".tgz": ("tar", {"compression": "gzip"}),
    ".tar.bz2": ("tar", {"compression": "bz2"}),
    ".tar.xz": ("tar", {"compression": "xz"}),
}
PARQUET_ROWS = 1024
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TextFile:
    """A file, or a member of an archive."""

    name: str  # what errors call it
    path: PurePosixPath  # in the folder or archive; its suffix tells its kind
    open_raw: Callable[[], AbstractContextManager[IO[bytes]]]  # opens it as it is stored; it may be packed
    max_bytes: int  # when unpacked

    def __str__(self) -> str:
        return self.name

    @property
    def is_packed(self) -> bool:
        """Whether it is a gzip file."""
        return self.path.name.lower().endswith(".gz")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The content, unpacked; reading it raises InputError where it is damaged or too large."""
        try:
            with self.open_raw() as raw:
                unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if self.is_packed else raw
                yield io.BufferedReader(_Limited(unpacked, self))
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(f"{self} is not a whole gzip file ({error}); fetch or pack it again") from None
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise InputError(f"{self} is damaged ({error}); fetch or pack it again") from None


class _Limited(io.RawIOBase):
    """A stream that ends in an error at `max_bytes`: a few kilobytes can unpack to more than any disk holds."""

    def __init__(self, stream: IO[bytes], file: TextFile) -> None:
        self._stream = stream
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        if self._stream.tell() > self._file.max_bytes:
            raise InputError(
                f"{self._file} holds more than {self._file.max_bytes:,} bytes; if that is right, raise "
                "download.max_bytes"
            )
        return len(chunk)


def file_documents(
    path: Path, members: str, source: SourceFile, params: DownloadParams, name: str | None = None
) -> Iterator[Document]:
    """Yield a document for every text that is not blank, file by file in the order of their paths, as in the files.

    The id is the hash of the text: a row has no other name that survives an edit above it. Equal texts share an id.
    Each file of a corpus of `word/tag` files is a document, and its path the id. A lone surrogate (`"\\ud800"` in
    JSON), which is not a character and cannot be stored, becomes U+FFFD. Nothing else is changed.

    Args:
        path: a file, a folder or an archive, which errors call `name`.
        members: fsspec's notation for members of an archive (`zip://folder/*.txt`), or empty: all of a known kind.
        source: settings of this file; `params` has those of all files.

    Raises:
        InputError: a path is missing, of an unknown kind, damaged, too large, not UTF-8, or lacks the column; a value
            is not text.
    """
    for file in _files(path, name or str(path), members, source, params.max_bytes):
        for text in _reader(file, source, params)(file):
            if text and not text.isspace():
                text = SURROGATE.sub("\ufffd", text)
                id_ = str(file.path) if source.format == "word/tag" else text_id(text)
                yield Document(id_, text, source.split, source.tokenized)


def text_id(text: str) -> str:
    """The id of a text without a name: the first 64 bits of its SHA-256, in hexadecimal."""
    return sha256(text.encode("utf-8")).hexdigest()[:16]


def _files(path: Path, name: str, members: str, source: SourceFile, max_bytes: int) -> list[TextFile]:
    if not path.exists():
        raise InputError(f"{name} does not exist; section download of params.yaml names the file or folder to read")
    if members or _archive(path):
        system, found = _members(path, name, members)
        files = [
            TextFile(f"{name}: {member}", member, partial(system.open, str(member), "rb"), max_bytes)
            for member in _wanted(found, source)
        ]
        if not files:
            wanted = f"is {members}" if members else f"ends in {KNOWN}"
            raise InputError(f"empty corpus: nothing in {name} {wanted}; correct section download of params.yaml")
        return files
    if path.is_dir():
        inside = (PurePosixPath(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        files = [
            TextFile(str(path / file), file, partial((path / file).open, "rb"), max_bytes)
            for file in _wanted(inside, source)
        ]
        if not files:
            raise InputError(f"empty corpus: no file below {path} ends in {KNOWN}; put text there, or change "
                             "download.path or download.source in params.yaml")  # fmt: skip
        return files
    if not source.format and _kind(path) not in KINDS:
        raise InputError(f"{name} is of an unknown kind; expected a name that ends in {KNOWN}")
    return [TextFile(name, PurePosixPath(path.name), partial(path.open, "rb"), max_bytes)]


def _wanted(found: Iterable[PurePosixPath], source: SourceFile) -> list[PurePosixPath]:
    """Those of a known kind, in order; a hidden file is a tool's (`._comments.csv`, `.ipynb_checkpoints/`)."""
    return sorted(
        path
        for path in found
        if (source.format or _kind(path) in KINDS) and not any(part.startswith(".") for part in path.parts)
    )


def _members(path: Path, name: str, members: str) -> tuple[Any, list[PurePosixPath]]:
    """An archive, open, and the files in it, or those that `members` names."""
    try:
        protocol, packed = _archive(path) or ("", {})
        if members:
            system, pattern = fsspec.url_to_fs(f"{members}::{path}", **{protocol: packed} if packed else {})
            found = system.glob(pattern)
        else:
            system = fsspec.filesystem(protocol, fo=str(path), **packed)
            found = system.find("")
        return system, [PurePosixPath(member) for member in found if system.isfile(member)]
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{name} is not a whole archive ({error}); fetch or pack it again") from None
    except (ImportError, ValueError) as error:
        raise InputError(f"{members}::{name} cannot be opened: {one_line(error)}") from None


def _kind(path: Path | PurePosixPath) -> str:
    name = path.name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix


def _archive(path: Path) -> tuple[str, dict[str, Any]] | None:
    return next((kind for suffix, kind in ARCHIVES.items() if path.name.lower().endswith(suffix)), None)


def _reader(file: TextFile, source: SourceFile, params: DownloadParams) -> Callable[[TextFile], Iterator[str | None]]:
    column = source.text_column or params.text_column
    match source.format or _kind(file.path).removeprefix("."):
        case "txt":
            # A corpus with splits of its own has a sentence, or a paragraph, a line.
            return _lines if params.txt_documents == "line" or source.split else _blocks
        case "csv":
            return partial(_csv, column=column)
        case "jsonl":
            return partial(_jsonl, column=column)
        case "word/tag":
            return _tagged
        case _:
            return partial(_parquet, column=column)


def _lines(file: TextFile) -> Iterator[str]:
    with _open_text(file) as lines:
        for line in lines:
            yield line.removesuffix("\n")


def _blocks(file: TextFile) -> Iterator[str]:
    for has_text, lines in groupby(_lines(file), lambda line: bool(line.strip())):
        if has_text:
            yield "\n".join(lines)


def _csv(file: TextFile, column: str) -> Iterator[str]:
    allow_long_csv_fields()
    with _open_text(file, newline="") as lines:
        rows = csv.reader(lines)
        try:
            header = next(rows, None)
            if header is None:
                return
            position = _column_position(header, column, file)
            for row in rows:
                if len(row) > position:
                    yield row[position]
                elif row:
                    raise InputError(
                        f"{file}, line {rows.line_num}: the row has {len(row)} fields, too few for column {column!r}; "
                        "quote fields that hold commas, quotes or line ends"
                    )
        except csv.Error as error:
            raise InputError(f"{file}, line {rows.line_num}: not valid CSV: {error}") from None


def _jsonl(file: TextFile, column: str) -> Iterator[str | None]:
    with _open_text(file, newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", "nested too deep or a number too long")
                raise InputError(f"{file}, line {number}: not valid JSON: {reason}") from None
            if not isinstance(row, dict):
                raise InputError(f"{file}, line {number}: expected a JSON object with {column!r}, got a JSON "
                                 f"{type(row).__name__}")  # fmt: skip
            _column_position(list(row), column, file, f", line {number}")
            text = row[column]
            if text is not None and not isinstance(text, str):
                raise InputError(f"{file}, line {number}: {column!r} holds {json.dumps(text)[:40]}, not a text")
            yield text


def _parquet(file: TextFile, column: str) -> Iterator[str | None]:
    try:
        with file.open() as raw, pq.ParquetFile(io.BytesIO(raw.read()) if file.is_packed else raw) as table:
            schema = table.schema_arrow
            position = _column_position(schema.names, column, file)
            kind = schema.field(position).type
            if not _is_text(kind):
                raise InputError(f"{file}: column {column!r} holds {kind}, not text; convert it to strings")
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=[column]):
                yield from batch.column(0).to_pylist()
    except UnicodeDecodeError:
        raise InputError(f"{file}: column {column!r} is not UTF-8; convert it") from None
    except (pa.ArrowException, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{file} is not valid Parquet: {one_line(error)}") from None


def _tagged(file: TextFile) -> Iterator[str]:
    """The words of a file of `word/tag` pairs, a sentence a line, as one text."""
    with _open_text(file) as lines:
        yield "\n".join(
            " ".join(pair.rpartition("/")[0] or pair for pair in line.split()) for line in lines if line.strip()
        )


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type  # a column of categories
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


def _column_position(names: list[str], column: str, file: TextFile, where: str = "") -> int:
    if column not in names:
        known = ", ".join(repr(name) for name in names) or "none"
        raise InputError(f"{file}{where}: no column {column!r} (download.text_column in params.yaml); it has: {known}")
    return names.index(column)


@contextmanager
def _open_text(file: TextFile, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file as UTF-8 (a byte order mark is not text); reading it raises InputError where it is not."""
    try:
        with file.open() as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline=newline) as lines:
            yield lines
    except UnicodeDecodeError:
        raise InputError(f"{file}{_place_of_first_bad_byte(file)}: not UTF-8; convert it, say with iconv") from None


def _place_of_first_bad_byte(file: TextFile) -> str:
    """A decoder counts from the start of its own block, which tells a reader nothing: look for the byte again."""
    offset = 0
    with file.open() as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f", line {number} (byte {offset + error.start})"
            offset += len(line)
    return ""
