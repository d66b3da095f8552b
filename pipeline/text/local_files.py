"""Source `files`: one file, or every file of a known kind below a folder.

Everything is read as a stream (but for a `.parquet.gz`, which has to be unpacked whole), so memory does not grow with
the corpus. An error names the file and, where there is one, the line.
"""

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.text.params import DownloadParams

KINDS = (".txt", ".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 1024
SURROGATE = re.compile("[\ud800-\udfff]")

Reader = Callable[[Path], Iterator[str | None]]


def file_documents(params: DownloadParams) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every text that is not blank, file by file in the order of their paths, as in the files.

    The id is the hash of the text: a row has no other name that survives an edit above it. Equal texts share an id. A
    lone surrogate (`"\\ud800"` in JSON), which is no character and cannot be stored, becomes U+FFFD. Nothing else
    is changed.

    Raises:
        InputError: a path is missing, of an unknown kind, damaged, not UTF-8, or lacks the column; a value is no text.
    """
    for file in _files(Path(params.path)):
        for text in _reader(params, file)(file):
            if text and not text.isspace():
                text = SURROGATE.sub("\ufffd", text)
                yield text_id(text), text


def text_id(text: str) -> str:
    """The id of a text without a name: the first 64 bits of its SHA-256, in hexadecimal."""
    return sha256(text.encode("utf-8")).hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = [file for file in path.rglob("*") if _kind(file) in KINDS and file.is_file()]
        # A hidden file is a tool's (`._comments.csv`, `.ipynb_checkpoints/`), not the corpus.
        found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if not found:
            raise InputError(f"empty corpus: no file below {path} ends in {_known()}; put text there, or change "
                             "download.path or download.source in params.yaml")  # fmt: skip
        return sorted(found, key=lambda file: file.relative_to(path).parts)
    if not path.exists():
        raise InputError(f"{path} does not exist; download.path in params.yaml names the file or folder to read")
    if _kind(path) not in KINDS:
        raise InputError(f"{path} is of an unknown kind; expected a name that ends in {_known()}")
    return [path]


def _known() -> str:
    return f"{', '.join(KINDS)}, or one of these and .gz"


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _reader(params: DownloadParams, file: Path) -> Reader:
    match _kind(file):
        case ".txt":
            return _lines if params.txt_documents == "line" else _blocks
        case ".csv":
            return partial(_csv, column=params.text_column)
        case ".jsonl":
            return partial(_jsonl, column=params.text_column)
        case _:
            return partial(_parquet, column=params.text_column)


def _lines(path: Path) -> Iterator[str]:
    with _open_text(path) as file:
        for line in file:
            yield line.removesuffix("\n")


def _blocks(path: Path) -> Iterator[str]:
    block: list[str] = []
    for line in _lines(path):
        if line and not line.isspace():
            block.append(line)
        elif block:
            yield "\n".join(block)
            block = []
    yield "\n".join(block)


def _csv(path: Path, column: str) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)  # a document may be longer than the 131,072 characters allowed by default
    with _open_text(path, newline="") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, None)
            if header is None:
                return
            position = _column_position(header, column, path)
            for row in rows:
                if len(row) > position:
                    yield row[position]
                elif row:
                    raise InputError(
                        f"{path}, line {rows.line_num}: the row has {len(row)} fields, too few for column {column!r}; "
                        "quote fields that hold commas, quotes or line ends"
                    )
        except csv.Error as error:
            raise InputError(f"{path}, line {rows.line_num}: not valid CSV: {error}") from None


def _jsonl(path: Path, column: str) -> Iterator[str | None]:
    with _open_text(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = (
                    error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep or a number too long"
                )
                raise InputError(f"{path}, line {number}: not valid JSON: {reason}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: expected a JSON object with {column!r}, got a JSON "
                                 f"{type(row).__name__}")  # fmt: skip
            _column_position(list(row), column, path, f", line {number}")
            text = row[column]
            if text is not None and not isinstance(text, str):
                raise InputError(f"{path}, line {number}: {column!r} holds {json.dumps(text)[:40]}, not a text")
            yield text


def _parquet(path: Path, column: str) -> Iterator[str | None]:
    try:
        with _open_binary(path) as file, pq.ParquetFile(io.BytesIO(file.read()) if _is_packed(path) else file) as table:
            schema = table.schema_arrow
            position = _column_position(schema.names, column, path)
            kind = schema.field(position).type
            if not _is_text(kind):
                raise InputError(f"{path}: column {column!r} holds {kind}, not text; convert it to strings")
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=[column]):
                yield from batch.column(0).to_pylist()
    except UnicodeDecodeError:
        raise InputError(f"{path}: column {column!r} is not UTF-8; convert it") from None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's, such as "permission denied"
        raise InputError(f"{path} is not valid Parquet: {' '.join(str(error).split())}") from None


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type  # a column of categories
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


def _column_position(names: list[str], column: str, path: Path, where: str = "") -> int:
    if column not in names:
        known = ", ".join(repr(name) for name in names) or "none"
        raise InputError(f"{path}{where}: no column {column!r} (download.text_column in params.yaml); it has: {known}")
    return names.index(column)


@contextmanager
def _open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file as UTF-8 (a byte order mark is no text); reading it raises InputError where it is not."""
    try:
        with _open_binary(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError:
        raise InputError(f"{path}{_place_of_first_bad_byte(path)}: not UTF-8; convert it, say with iconv") from None


@contextmanager
def _open_binary(path: Path) -> Iterator[IO[bytes]]:
    try:
        if not _is_packed(path):
            with path.open("rb") as file:
                yield file
            return
        with gzip.open(path) as file:
            yield cast(IO[bytes], file)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from None


def _place_of_first_bad_byte(path: Path) -> str:
    """A decoder counts from the start of its own block, which tells a reader nothing: look for the byte again."""
    offset = 0
    with _open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f", line {number} (byte {offset + error.start})"
            offset += len(line)
    return ""
