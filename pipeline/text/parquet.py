"""Opening the Parquet files that stages hand on: the right columns, or one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime.errors import InputError


@contextmanager
def open_parquet(path: Path, schema: pa.Schema, stage: str) -> Iterator[pq.ParquetFile]:
    """A file that `stage` wrote, open until the block ends; what fails while the block reads it is InputError too.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    advice = f"delete it and run `dvc repro {stage}`"
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                wanted, found = (
                    ", ".join(f"{f.name}: {f.type}" for f in fields) for fields in (schema, file.schema_arrow)
                )
                raise InputError(f"{path} should hold {wanted}, but holds {' '.join(found.split())}; {advice}")
            yield file
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `dvc repro {stage}`") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); {advice}") from None
