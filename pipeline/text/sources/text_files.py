"""Files of text: one, every file of a known kind below a folder, or members of a zip or tar archive.

Everything is read as a stream (except `.parquet.gz`, which has to be unpacked whole), so memory does not grow with the
corpus. A document, and the row or line that it stands in, have a limit; what all of a file unpacks to has another
(`unpacking`). An error names the file and, where there is one, the line.
"""

import codecs
import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import chain, groupby, repeat
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line
from pipeline.runtime.settings import allow_long_csv_fields
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources.unpacking import Room, TextFile, archive_kind, archive_members

KINDS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
KNOWN = f"{', '.join(KINDS)}, or one of these and .gz"
PARQUET_ROWS = 1024
# Characters of a document, or of the row or line that it stands in: text8, 100 MB in one line, is one.
LONGEST_DOCUMENT = 100_000_000
LARGEST_PACKED_TABLE = 500_000_000  # bytes that a .parquet.gz unpacks to, in memory
HIGHEST_PACKING = 100  # bytes of text from one byte of a column in Parquet; text gives 2 to 20
SURROGATE = re.compile("[\ud800-\udfff]")
MARK = "\ufeff"
DELIMITERS = ",;\t|"  # of a .csv file: the first one with which its header has the column
LFS_POINTER = "version https://git-lfs.github.com/spec/"  # what a checkout without Git LFS has in a file's place
HTML = ("<!doctype html", "<html")
SKIPPED_NAMES = 5  # that a message names


def file_documents(
    path: Path, members: str, source: SourceFile, params: DownloadParams, name: str | None = None
) -> Iterator[Document]:
    """Yield a document for every text that is not blank, file by file in the order of their paths, as in the files.

    The id is the hash of the text: a row has no other name that survives an edit above it. Equal texts share an id.
    Each file of a corpus of `word/tag` files is a document, and its path the id. Texts that belong together share an
    id: rows of one group (`group_column`; where it is empty a row is on its own), or else all texts of a folder, if
    `group_by_folder` says so. A lone surrogate (`"\\ud800"` in
    JSON), which is not a character and cannot be stored, becomes U+FFFD, and byte order marks go, which files that were
    put together have anywhere. Nothing else is changed.

    Args:
        path: a file, a folder or an archive, which errors call `name`.
        members: fsspec's notation for members of an archive (`zip://folder/*.txt`), or empty: all of a known kind.
        source: settings of this file; `params` has those of all files.

    Raises:
        InputError: a path is missing, of an unknown kind, damaged, too large, not UTF-8, or lacks the column; a value
            is not text.
    """
    for file in _files(path, name or str(path), members, source, params.max_bytes):
        for text, group in _reader(file, source, params)(file):
            text = text and text.replace(MARK, "")
            if text and "\0" in text:
                raise InputError(
                    f"{file}: a text has NUL characters, as UTF-16 read as UTF-8 has; convert it, say with "
                    "iconv -f UTF-16LE -t UTF-8"
                )
            if text and not text.isspace():
                text = SURROGATE.sub("\ufffd", text)
                if group and not group.isspace():
                    # A hash: names of people need not stand in every file. No text has the same one.
                    id_ = text_id("\0" + SURROGATE.sub("\ufffd", group))
                elif params.group_by_folder:
                    id_ = str(file.path.parent)
                else:
                    id_ = str(file.path) if source.format == "word/tag" else text_id(text)
                yield Document(id_, text, source.split, source.tokenized)


def text_id(text: str) -> str:
    """The id of a text without a name: the first 64 bits of its SHA-256, in hexadecimal."""
    return sha256(text.encode("utf-8")).hexdigest()[:16]


def _files(path: Path, name: str, members: str, source: SourceFile, max_bytes: int) -> list[TextFile]:
    if not path.exists():
        raise InputError(f"{name} does not exist; section download of params.yaml names the file or folder to read")
    if members or archive_kind(path):
        system, found = archive_members(path, name, members)
        room = Room(name, max_bytes)
        files = [
            TextFile(f"{name}: {member}", member, partial(system.open, str(member), "rb"), room)
            for member in _wanted(found, source)
        ]
        if not files:
            wanted = f"is {members}" if members else f"ends in {KNOWN}"
            raise InputError(f"empty corpus: nothing in {name} {wanted}; correct section download of params.yaml")
        return files
    if path.is_dir():
        inside = list(_below(path))
        wanted = _wanted(inside, source)
        files = [
            TextFile(str(path / file), file, partial((path / file).open, "rb"), Room(str(path / file), max_bytes))
            for file in wanted
        ]
        _name_skipped(path, sorted({*inside} - {*wanted}))
        if not files:
            raise InputError(f"empty corpus: no file below {path} ends in {KNOWN}; put text there, or change "
                             "download.path or download.source in params.yaml")  # fmt: skip
        return files
    if not source.format and _kind(path) not in KINDS:
        raise InputError(f"{name} is of an unknown kind; expected a name that ends in {KNOWN}")
    return [TextFile(name, PurePosixPath(path.name), partial(path.open, "rb"), Room(name, max_bytes))]


def _below(folder: Path) -> Iterator[PurePosixPath]:
    """Every file below a folder, links followed, each folder once: links may lead back."""
    seen: set[Path] = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if (Path(where) / name).resolve() not in seen]
        seen |= {(Path(where) / name).resolve() for name in folders} | {Path(where).resolve()}
        yield from (PurePosixPath((Path(where) / name).relative_to(folder)) for name in names)


def _name_skipped(folder: Path, skipped: Sequence[PurePosixPath]) -> None:
    """Say which files of a folder are not read; what tools hide there, nobody misses."""
    named = [str(path) for path in skipped if not any(part.startswith(".") for part in path.parts)]
    if named:
        more = f" and {len(named) - SKIPPED_NAMES:,} more" if named[SKIPPED_NAMES:] else ""
        print(
            f"warning: in {folder} these are not read, as their names do not end in {KNOWN}: "
            f"{', '.join(named[:SKIPPED_NAMES])}{more}",
            file=sys.stderr,
        )


def _wanted(found: Iterable[PurePosixPath], source: SourceFile) -> list[PurePosixPath]:
    """Those of a known kind, in order; a hidden file is a tool's (`._comments.csv`, `.ipynb_checkpoints/`)."""
    return sorted(
        path
        for path in found
        if (source.format or _kind(path) in KINDS) and not any(part.startswith(".") for part in path.parts)
    )


def _kind(path: Path | PurePosixPath) -> str:
    name = path.name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix


# What readers yield: a text, and the value of the column of groups, where there is one.
Grouped = tuple[str | None, str | None]


def _reader(file: TextFile, source: SourceFile, params: DownloadParams) -> Callable[[TextFile], Iterator[Grouped]]:
    column, group = source.text_column or params.text_column, source.group_column or params.group_column
    match source.format or _kind(file.path).removeprefix("."):
        case "txt":
            # A corpus with splits of its own has a sentence, or a paragraph, a line.
            return partial(_alone, _lines if params.txt_documents == "line" or source.split else _blocks)
        case "csv" | "tsv":
            return partial(_csv, column=column, group=group)
        case "jsonl" | "ndjson":
            return partial(_jsonl, column=column, group=group)
        case "word/tag":
            return partial(_alone, _tagged)
        case _:
            return partial(_parquet, column=column, group=group)


def _alone(reader: Callable[[TextFile], Iterator[str]], file: TextFile) -> Iterator[Grouped]:
    return ((text, None) for text in reader(file))


def _lines(file: TextFile) -> Iterator[str]:
    for line in _text_lines(file):
        yield line.removesuffix("\n")


def _blocks(file: TextFile) -> Iterator[str]:
    for has_text, lines in groupby(_text_lines(file), lambda line: bool(line.strip())):
        if has_text:
            yield _joined(lines, file).removesuffix("\n")


def _csv(file: TextFile, column: str, group: str | None) -> Iterator[Grouped]:
    allow_long_csv_fields()
    held = number = 0  # characters of the row, whose fields may hold line ends; lines read
    row_lines: list[str] = []

    def counted() -> Iterator[str]:
        nonlocal held, number
        for number, line in enumerate(_text_lines(file, newline=""), start=1):
            held += len(line)
            if held > LONGEST_DOCUMENT:
                raise _too_long(file, number)
            row_lines.append(line)
            yield line

    def whole(rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """The rows; of a file that was cut inside a quoted field, what is there of the last one."""
        nonlocal held
        try:
            for row in rows:
                yield row
                held = 0
                row_lines.clear()
        except csv.Error as error:
            if str(error) != "unexpected end of data":
                raise
            yield next(csv.reader([*row_lines, '"'], delimiter=delimiter))

    lines = counted()
    first = next(lines, None)
    if first is None:
        return
    delimiter = _delimiter(first, column, file)
    # Strict, as otherwise a quote that is escaped by a backslash, or that nothing closes, takes other rows along.
    lines = lines if _names_delimiter(first) else chain([first], lines)
    rows = whole(csv.reader(lines, delimiter=delimiter, strict=True))
    try:
        header = next(rows, [])
        position = _column_position(header, column, file)
        of_group = None if group is None else _column_position(header, group, file, setting="group_column")
        for row in rows:
            if len(row) == len(header):
                yield row[position], None if of_group is None else row[of_group]
            elif row:
                raise InputError(
                    f"{file}, line {number}: the row has {len(row)} fields, the header {len(header)}; quote fields "
                    "that hold commas, quotes or line ends"
                )
    except csv.Error as error:
        raise InputError(
            f"{file}, line {number}: not valid CSV: {error}; in a quoted field, write a quote twice"
        ) from None


def _names_delimiter(line: str) -> bool:
    """Whether it is the line in which Excel names the delimiter."""
    return line.startswith("sep=") and len(line.rstrip("\r\n")) == len("sep=") + 1


def _delimiter(header: str, column: str, file: TextFile) -> str:
    if _names_delimiter(header):
        return header[len("sep=")]
    if _kind(file.path) == ".tsv":
        return "\t"
    found = (mark for mark in DELIMITERS if column in next(csv.reader([header], delimiter=mark), []))
    return next(found, DELIMITERS[0])


def _jsonl(file: TextFile, column: str, group: str | None) -> Iterator[Grouped]:
    for number, line in enumerate(_text_lines(file, newline="\n"), start=1):
        line = line.removeprefix("\x1e")  # which RFC 7464 puts before each text
        if not line or line.isspace():
            continue
        if number == 1 and line.lstrip().startswith("["):
            raise InputError(f"{file} is one JSON array; write an object a line, say with jq -c '.[]'")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deep or a number too long")
            raise InputError(f"{file}, line {number}: not valid JSON: {reason}") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{file}, line {number}: expected a JSON object with {column!r}, got a JSON {type(row).__name__}"
            )
        _column_position(list(row), column, file, f", line {number}")
        text = row[column]
        if text is not None and not isinstance(text, str):
            raise InputError(f"{file}, line {number}: {column!r} holds {json.dumps(text)[:40]}, not a text")
        if group is not None:
            _column_position(list(row), group, file, f", line {number}", "group_column")
        value = None if group is None else row[group]
        if value is not None and not isinstance(value, str | int):
            raise InputError(f"{file}, line {number}: {group!r} holds {json.dumps(value)[:40]}, not a text or a number")
        yield text, None if value is None else str(value)


def _parquet(file: TextFile, column: str, group: str | None) -> Iterator[Grouped]:
    columns = [column] if group is None else [column, group]
    try:
        with file.open() as raw:
            source = _unpacked(raw, file) if file.is_packed else raw
            metadata = _checked_metadata(source, column, group, file)
            # As a dictionary, so that a text that a file has once is also held once, however many rows repeat it.
            table = pq.ParquetFile(source, metadata=metadata, read_dictionary=columns)
            size = 0
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                texts = _texts(batch.column(column), file)
                groups = repeat(None) if group is None else _texts(batch.column(group), file)
                for text, value in zip(texts, groups, strict=False):
                    size += len(text or "") + len(value or "")
                    file.room.take(str(file.path), size)
                    yield text, value
    except UnicodeDecodeError:
        raise InputError(f"{file}: column {' or '.join(map(repr, columns))} is not UTF-8; convert it") from None
    except (pa.ArrowException, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{file} is not valid Parquet: {one_line(error)}") from None


def _unpacked(raw: IO[bytes], file: TextFile) -> IO[bytes]:
    content = raw.read(LARGEST_PACKED_TABLE + 1)
    if len(content) > LARGEST_PACKED_TABLE:
        raise InputError(f"{file} unpacks to more than {LARGEST_PACKED_TABLE:,} bytes; unpack it yourself: Parquet "
                         "is packed already")  # fmt: skip
    return io.BytesIO(content)


def _checked_metadata(source: IO[bytes], column: str, group: str | None, file: TextFile) -> pq.FileMetaData:
    with pq.ParquetFile(source) as table:
        schema, metadata = table.schema_arrow, table.metadata
    _check_column(schema, metadata, column, file, "text_column")
    if group is not None:
        _check_column(schema, metadata, group, file, "group_column")
    return metadata


def _check_column(schema: pa.Schema, metadata: pq.FileMetaData, column: str, file: TextFile, setting: str) -> None:
    kind = schema.field(_column_position(schema.names, column, file, setting=setting)).type
    if not _is_text(kind) and not (setting == "group_column" and pa.types.is_integer(kind)):
        raise InputError(f"{file}: column {column!r} holds {kind}, not text; convert it to strings")
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    for part in (group.column(index) for group in groups for index in range(group.num_columns)):
        size = part.total_uncompressed_size
        # Arrow unpacks a page at once, up to 2 GB; what packs so well is no text.
        if part.path_in_schema == column and size > max(LONGEST_DOCUMENT, HIGHEST_PACKING * part.total_compressed_size):
            raise InputError(f"{file}: column {column!r} unpacks to {size:,} bytes, more than {HIGHEST_PACKING} times "
                             "its size; write it again in row groups of fewer rows")  # fmt: skip


def _texts(column: pa.Array, file: TextFile) -> Iterator[str | None]:
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    known = column.dictionary if pa.types.is_dictionary(column.type) else column
    compute = cast(Any, pc)  # whose functions are made when it is imported
    longest = compute.max(compute.binary_length(known.cast(pa.large_string()))).as_py()
    if (longest or 0) > LONGEST_DOCUMENT:
        raise _too_long(file)
    texts = known.to_pylist()
    if known is column:
        return iter(texts)
    return (None if index is None else texts[index] for index in column.indices.to_pylist())


def _tagged(file: TextFile) -> Iterator[str]:
    """The words of a file of `word/tag` pairs, a sentence a line, as one text."""
    lines = (line for line in _text_lines(file) if line.strip())
    sentences = (" ".join(pair.rpartition("/")[0] or pair for pair in line.split()) + "\n" for line in lines)
    yield _joined(sentences, file).removesuffix("\n")


def _joined(lines: Iterable[str], file: TextFile) -> str:
    """One text of many lines; in a list, short ones would take ten times their size."""
    text = io.StringIO()
    for line in lines:
        text.write(line)
        if text.tell() > LONGEST_DOCUMENT:
            raise _too_long(file)
    return text.getvalue()


def _too_long(file: TextFile, line: int | None = None) -> InputError:
    where = "" if line is None else f", line {line}"
    return InputError(
        f"{file}{where}: a document, or its row, has more than {LONGEST_DOCUMENT:,} characters; cut it into several"
    )


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type  # a column of categories
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


def _column_position(
    names: list[str], column: str, file: TextFile, where: str = "", setting: str = "text_column"
) -> int:
    if column not in names:
        known = ", ".join(repr(name) for name in names) or "none"
        raise InputError(f"{file}{where}: no column {column!r} (download.{setting} in params.yaml); it has: {known}")
    if names.count(column) > 1:
        raise InputError(f"{file}{where}: {names.count(column)} columns are named {column!r}; rename the others")
    return names.index(column)


def _text_lines(file: TextFile, newline: str | None = None) -> Iterator[str]:
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
                    raise _too_long(file, number)
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
        print(
            f"warning: {file} is HTML, whose markup will be learned as text; take its text out first", file=sys.stderr
        )


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
