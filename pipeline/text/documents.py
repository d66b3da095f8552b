"""Documents and the file that holds them.

The file is Parquet, a document a row, written and read in blocks, so memory does not grow with the corpus. Columns:
`id`, `text`; `split`, null where the id decides, as in most corpora; and `tokenized`, true where the lines of the text
are sentences with spaces between words.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runtime.files import atomic_path
from pipeline.text.parquet import arrays, open_parquet
from pipeline.text.splits import Split

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("tokenized", pa.bool_(), nullable=False),
    ]
)
WRITTEN_CHARACTERS = 8 << 20  # text held in memory at a time; a longer document is held whole
WRITTEN_DOCUMENTS = 1 << 16
READ_DOCUMENTS = 256


class Document(NamedTuple):
    """A text and its name; a corpus that comes split or tokenized says so here."""

    id: str
    text: str
    split: Split | None = None
    tokenized: bool = False


def write_documents(found: Iterable[Document], path: Path) -> None:
    """Write documents to a Parquet file, whole or not at all; equal documents give equal bytes.

    Raises:
        InputError: as the iterable does.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, DOCUMENT_SCHEMA, compression="zstd") as writer:
        for block in blocks(found, WRITTEN_CHARACTERS, WRITTEN_DOCUMENTS):
            writer.write_table(pa.table(arrays(block, DOCUMENT_SCHEMA), schema=DOCUMENT_SCHEMA))


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file that `write_documents` wrote, in its order.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    with open_parquet(path, DOCUMENT_SCHEMA, "download") as file:
        # Row group by row group, as `write_documents` wrote them: many long documents never come together.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=READ_DOCUMENTS, row_groups=[group]):
                yield from map(Document, *(column.to_pylist() for column in batch.columns))


def blocks(found: Iterable[Document], characters: int, documents: int) -> Iterator[list[Document]]:
    """Cut a stream into lists: each ends as soon as it holds so many characters or documents."""
    block: list[Document] = []
    held = 0
    for document in found:
        block.append(document)
        held += len(document.text)
        if held >= characters or len(block) >= documents:
            yield block
            block, held = [], 0
    if block:
        yield block
