"""The file of tokens: Parquet, one row a sentence.

Columns: `document` (the id), `split` (train, valid or test) and `tokens`; a token is null where the corpus itself says
that the word is unknown. The rows of train come first, then those of valid, then those of test, each in the order of
the documents.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow.compute import call_function

from pipeline.text.parquet import open_parquet
from pipeline.text.splits import Split

SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("element", pa.string())), nullable=False),
    ]
)
ROW_GROUP_SENTENCES = 1 << 16
READ_SENTENCES = 1 << 14


def read_tokens(path: Path, split: Split) -> Iterator[pa.ListArray]:
    """Yield the sentences of one split of a file of tokens, in blocks: an array of lists of strings.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    with open_parquet(path, SCHEMA, "tokenize") as file:
        for batch in file.iter_batches(READ_SENTENCES, columns=["split", "tokens"]):
            rows = batch.column("tokens").filter(call_function("equal", [batch.column("split"), pa.scalar(split)]))
            rows.validate(full=True)  # the reader itself does not look whether words are UTF-8
            yield rows
