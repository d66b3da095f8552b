"""The file of tokens: Parquet, one row a sentence.

Columns: `document` (the id), `split` (train, valid or test) and `tokens`. The rows of train come first, then those of
valid, then those of test, each in the order of the documents.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.compute import call_function

from pipeline.errors import InputError
from pipeline.text.splits import Split

SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)
ROW_GROUP_SENTENCES = 1 << 16


def read_tokens(path: Path, split: Split) -> Iterator[pa.ListArray]:
    """Yield the sentences of one split of a file of tokens, in blocks: an array of lists of strings.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    advice = "delete it and run `dvc repro tokenize`"
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                names = ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)
                raise InputError(f"{path} should hold document, split and tokens, but holds {names}; {advice}")
            for batch in file.iter_batches(ROW_GROUP_SENTENCES, columns=["split", "tokens"]):
                rows = batch.column("tokens").filter(call_function("equal", [batch.column("split"), pa.scalar(split)]))
                rows.validate(full=True)  # the reader itself does not look whether words are UTF-8
                yield rows
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `dvc repro tokenize`") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); {advice}") from None
