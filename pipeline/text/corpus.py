"""Documents: where they come from and the file that holds them.

The file is Parquet with the columns `id` and `text`, both strings, a document a row. It is written and read in blocks,
so memory does not grow with the corpus.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import atomic_path
from pipeline.text.docstrings import docstring_documents
from pipeline.text.local_files import file_documents
from pipeline.text.params import DownloadParams
from pipeline.text.parquet import open_parquet

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])
BLOCK_CHARACTERS = 8 << 20  # text held in memory at a time, but for a longer document
BLOCK_DOCUMENTS = 1 << 16
READ_DOCUMENTS = 256


def documents(params: DownloadParams, pins: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every document of the source that `params` names, always in the same order.

    Args:
        params: section `download`.
        pins: lines `name==version`, one for each package of `params.packages`; read for `installed-docs` only.

    Raises:
        InputError: the source is missing, damaged or without any text, or a package is not at its pinned version.
    """
    if params.source == "files":
        found, where = file_documents(params), f"{params.path} holds no text"
    else:
        found, where = docstring_documents(params.packages, pins), "the docstrings of download.packages hold no prose"
    number = 0
    for number, document in enumerate(found, start=1):  # noqa: B007
        yield document
    if not number:
        raise InputError(f"empty corpus: {where}; see section download of params.yaml")


def write_documents(found: Iterable[tuple[str, str]], path: Path) -> None:
    """Write (id, text) pairs to a Parquet file, whole or not at all; equal documents give equal bytes.

    Raises:
        InputError: as the iterable does.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for block in _blocks(found):
            ids, texts = zip(*block, strict=True)
            writer.write_table(pa.table([pa.array(ids), pa.array(texts)], schema=SCHEMA))


def read_documents(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the (id, text) pairs of a file that `write_documents` wrote, in its order.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    with open_parquet(path, SCHEMA, "download") as file:
        for batch in file.iter_batches(batch_size=READ_DOCUMENTS):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def _blocks(found: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    block: list[tuple[str, str]] = []
    characters = 0
    for document in found:
        block.append(document)
        characters += len(document[1])
        if characters >= BLOCK_CHARACTERS or len(block) >= BLOCK_DOCUMENTS:
            yield block
            block, characters = [], 0
    if block:
        yield block
