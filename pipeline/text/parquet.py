"""The Parquet files that stages hand on: rows to columns, and opening them: the right columns, or one clear line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line


def arrays(rows: Sequence[tuple], schema: pa.Schema) -> list[pa.Array]:
    """The columns of `rows`, of which there is at least one, each with a value for every field of `schema`."""
    return [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]


@contextmanager
def open_parquet(path: Path, schema: pa.Schema, stage: str) -> Iterator[pq.ParquetFile]:
    """A file that `stage` wrote, open until the block ends; what fails while the block reads it is InputError too.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
        MemoryError, OSError: the machine lacks memory, permission or the like, which says nothing against the file.
    """
    advice = f"delete it and run `dvc repro {stage}`"
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                wanted, found = (
                    ", ".join(f"{f.name}: {f.type}" for f in fields) for fields in (schema, file.schema_arrow)
                )
                raise InputError(f"{path} should hold {wanted}, but holds {one_line(found)}; {advice}")
            yield file
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `dvc repro {stage}`") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{path} is damaged ({one_line(error)}); {advice}") from None
