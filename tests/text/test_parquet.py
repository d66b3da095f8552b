import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.text.parquet import open_parquet

SCHEMA = pa.schema([pa.field("id", pa.int64())])


@pytest.mark.parametrize(
    "error", [pa.ArrowMemoryError("malloc failed"), PermissionError(errno.EACCES, "Permission denied")]
)
def test_what_the_machine_lacks_is_not_the_files_fault(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table([[1]], schema=SCHEMA), path)
    with pytest.raises(type(error)), open_parquet(path, SCHEMA, "download"):
        raise error
