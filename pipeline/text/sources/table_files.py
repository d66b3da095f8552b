"""Tables: the texts, and the groups, of a column of a CSV, JSON Lines or Parquet file, row by row.

A row that does not fit is an error: what is guessed at loses text. An error names the file and, where there is one, the
line.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line
from pipeline.runtime.settings import allow_long_csv_fields
from pipeline.text.sources.text_lines import LONGEST_DOCUMENT, text_lines, too_long
from pipeline.text.sources.unpacking import TextFile

PARQUET_ROWS = 1024
LARGEST_PACKED_TABLE = 500_000_000  # bytes that a .parquet.gz unpacks to, in memory
HIGHEST_PACKING = 100  # bytes of text from one byte of a column in Parquet; text gives 2 to 20
DELIMITERS = ",;\t|"  # that are looked for in a .csv file: the first one with which its header has the column

# What readers yield of a row: a text, and the value of the column of groups, where there is one.
Grouped = tuple[str | None, str | None]


def csv_texts(file: TextFile, column: str, group: str | None, delimiter: str = "auto") -> Iterator[Grouped]:
    """The text and the group of each row of a CSV file; None and None of a blank row.

    What `auto` finds is the delimiter of the line `sep=;`, or the one with which the header has the column; a tab of
    a `.tsv` file.

    Raises:
        InputError: it lacks a column, or a row does not fit the header or its own quotes.
    """
    allow_long_csv_fields()
    held = number = 0  # characters of the row, whose fields may hold line ends; lines read
    row_lines: list[str] = []

    def counted() -> Iterator[str]:
        nonlocal held, number
        for number, line in enumerate(text_lines(file, newline=""), start=1):
            held += len(line)
            if held > LONGEST_DOCUMENT:
                raise too_long(file, number)
            row_lines.append(line)
            yield line

    def whole(rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """The rows; of a file that was cut inside a quoted field, what is there of the last one."""
        nonlocal held
        columns, quoted = 1, False
        try:
            for row in rows:
                yield row
                columns = len(row) or columns
                quoted = quoted or any('"' in line for line in row_lines)
                held = 0
                row_lines.clear()
        except csv.Error as error:
            if str(error) != "unexpected end of data":
                raise
            if _is_row_by_row(row_lines[1:], columns, quoted, delimiter):
                raise InputError(
                    f"{file}, line {number - len(row_lines) + 1}: nothing closes a quote, and the lines after it look "
                    "like rows; close it, or write a quote that is text twice, in a quoted field"
                ) from None
            yield next(csv.reader([*row_lines, '"'], delimiter=delimiter))

    lines = counted()
    first = next(lines, None)
    if first is None:
        return
    if delimiter == "auto":
        delimiter = _delimiter(first, column, file)
    # Strict, as otherwise a quote that is escaped by a backslash, or that nothing closes, takes other rows along.
    lines = lines if _names_delimiter(first) else chain([first], lines)
    rows = whole(csv.reader(lines, delimiter=delimiter, strict=True))
    try:
        header = next(rows, [])
        position = _column_position(header, column, file)
        of_group = None if group is None else _column_position(header, group, file, setting="group_column")
        for row in rows:
            if not row:
                yield None, None
            elif len(row) == len(header):
                yield row[position], None if of_group is None else row[of_group]
            else:
                raise InputError(
                    f"{file}, line {number}: the row has {len(row)} fields, the header {len(header)}; quote fields "
                    "that hold commas, quotes or line ends"
                )
    except csv.Error as error:
        raise InputError(
            f"{file}, line {number}: not valid CSV: {error}; in a quoted field, write a quote twice"
        ) from None


def _is_row_by_row(lines: Sequence[str], columns: int, quoted: bool, delimiter: str) -> bool:
    """Whether the lines after an open quote are rows of their own, and not what is left of a field that was cut.

    Most have as many fields as the header; or it is the first quote of the file, `quoted` being whether rows before
    had any, so that this table does not quote at all.
    """
    if not quoted:
        return bool(lines)
    fitting = sum(len(row) == columns for row in csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    return columns > 1 and len(lines) > 1 and fitting > len(lines) / 2


def _names_delimiter(line: str) -> bool:
    """Whether it is the line in which Excel names the delimiter."""
    return line.startswith("sep=") and len(line.rstrip("\r\n")) == len("sep=") + 1


def _delimiter(header: str, column: str, file: TextFile) -> str:
    if _names_delimiter(header):
        return header[len("sep=")]
    if file.kind == ".tsv":
        return "\t"
    found = (mark for mark in DELIMITERS if column in next(csv.reader([header], delimiter=mark), []))
    return next(found, DELIMITERS[0])


def jsonl_texts(file: TextFile, column: str, group: str | None) -> Iterator[Grouped]:
    """The text and the group of each line of a JSON Lines file; None and None of a blank line.

    Raises:
        InputError: a line is not an object with such a text.
    """
    for number, line in enumerate(text_lines(file, newline="\n"), start=1):
        line = line.removeprefix("\x1e")  # which RFC 7464 puts before each text
        if not line or line.isspace():
            yield None, None
            continue
        if number == 1 and line.lstrip().startswith("["):
            raise InputError(f"{file} is one JSON array; write an object a line, say with jq -c '.[]'")
        try:
            row = json.loads(line, object_pairs_hook=_once_each)
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


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys are there once: of two, the reader would drop the first in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise json.JSONDecodeError(f"the key {twice!r} is there twice", "", 0)
    return found


def parquet_texts(file: TextFile, column: str, group: str | None) -> Iterator[Grouped]:
    """The text and the group of each row of a Parquet file.

    Raises:
        InputError: it is damaged, lacks a column, or has one of another type.
    """
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
        raise too_long(file)
    texts = known.to_pylist()
    if known is column:
        return iter(texts)
    return (None if index is None else texts[index] for index in column.indices.to_pylist())


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
