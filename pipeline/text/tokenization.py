"""Documents -> tokens: split by document, cut into sentences and these into tokens, every sentence kept once."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import atomic_path
from pipeline.parallel import ordered_map
from pipeline.progress import Bar
from pipeline.text.params import TokenizeParams
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.splits import SPLITS, Split, split_of
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import ROW_GROUP_SENTENCES, SCHEMA

# While sentences wait for deduplication, a digest of their lower-cased tokens stands beside them.
DIGEST_BYTES = 16
SPILL_SCHEMA = SCHEMA.append(pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False))

BLOCK_CHARACTERS = 1 << 20  # text that one worker gets at a time, but for a longer document

Document = tuple[str, str]


def write_tokens(
    documents: Iterable[Document],
    splitter: SentenceSplitter,
    params: TokenizeParams,
    path: Path,
    workers: int,
    bar: Bar,
) -> None:
    """Split, tokenize and deduplicate `documents` into the Parquet file `path`, in blocks.

    Args:
        documents: (id, text) pairs.
        splitter: finds the sentences.
        params: section `tokenize`.
        path: where the rows go, whole or not at all; its bytes do not depend on `workers`.
        workers: number of processes.
        bar: advanced by the number of documents.

    Raises:
        InputError: there is no document, or a split ends up without a sentence.
    """
    make = partial(_BlockTokenizer, splitter, params)
    seen: set[bytes] | None = set() if params.deduplicate else None
    total = 0
    found = dict.fromkeys(SPLITS, 0)
    kept = dict.fromkeys(SPLITS, 0)
    with (
        atomic_path(path) as temporary,
        _RowGroups(temporary, SCHEMA) as output,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder,
    ):
        # A sentence of valid goes when train has it, even further on; so valid and test wait until train is done.
        waiting: dict[Split, Path] = {split: Path(folder, split) for split in SPLITS[1:]}
        with ExitStack() as stack:
            spills = {split: stack.enter_context(_RowGroups(spill, SPILL_SCHEMA)) for split, spill in waiting.items()}
            for documents_done, batches in ordered_map(make, _blocks(documents), workers):
                total += documents_done
                for split, batch in batches.items():
                    found[split] += batch.num_rows
                    if split == "train":
                        kept[split] += output.write(_without_seen(batch, seen))
                    else:
                        spills[split].write(batch)
                bar.advance(documents_done)
        if not total:
            raise InputError("empty corpus: there is no document to tokenize; see section download of params.yaml")
        for split, spill in waiting.items():
            for batch in pq.ParquetFile(spill).iter_batches(ROW_GROUP_SENTENCES):
                kept[split] += output.write(_without_seen(batch, seen))
        _check_not_empty(total, found, kept)


def _check_not_empty(documents: int, found: dict[Split, int], kept: dict[Split, int]) -> None:
    for split in SPLITS:
        if not kept[split]:
            reason = "no document with a sentence falls into it"
            if found[split]:
                reason = f"earlier splits hold all {found[split]} of its sentences (tokenize.deduplicate drops those)"
            raise InputError(
                f"the {split} split of {documents} documents is empty: {reason}; "
                f"use more documents, or raise tokenize.splits.{split}"
            )


def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    block: list[Document] = []
    characters = 0
    for document in documents:
        block.append(document)
        characters += len(document[1])
        if characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


class _BlockTokenizer:
    """What a worker does: documents in, rows of `SPILL_SCHEMA` by split out."""

    def __init__(self, splitter: SentenceSplitter, params: TokenizeParams) -> None:
        self._splitter = splitter
        self._tokenizer = Tokenizer(params.lowercase)
        self._params = params

    def __call__(self, block: list[Document]) -> tuple[int, dict[Split, pa.RecordBatch]]:
        rows = {split: _Rows() for split in SPLITS}
        for document, text in block:
            sentences = map(self._tokenizer.tokenize, self._splitter.split(text))
            split = split_of(document, self._params.splits)
            rows[split].append(document, [tokens for tokens in sentences if tokens])
        return len(block), {split: rows[split].batch(split) for split in SPLITS}


class _Rows:
    def __init__(self) -> None:
        self._documents: list[str] = []
        self._tokens: list[str] = []
        self._offsets = [0]
        self._digests: list[bytes] = []

    def append(self, document: str, sentences: list[list[str]]) -> None:
        self._documents += [document] * len(sentences)
        for tokens in sentences:
            self._tokens += tokens
            self._offsets.append(len(self._tokens))
            # No token holds a space, so different sentences are different lines.
            line = " ".join(tokens).lower().encode()
            self._digests.append(hashlib.blake2b(line, digest_size=DIGEST_BYTES).digest())

    def batch(self, split: Split) -> pa.RecordBatch:
        columns = [
            pa.array(self._documents, pa.string()),
            pa.array([split] * len(self._documents), pa.string()),
            pa.ListArray.from_arrays(
                pa.array(self._offsets, pa.int32()), pa.array(self._tokens, pa.string()), SCHEMA.field("tokens").type
            ),
            pa.array(self._digests, pa.binary(DIGEST_BYTES)),
        ]
        return pa.record_batch(columns, schema=SPILL_SCHEMA)


def _without_seen(batch: pa.RecordBatch, seen: set[bytes] | None) -> pa.RecordBatch:
    """The rows whose sentence is not in `seen` nor further up in `batch`, without digests; `seen` learns them.

    With `seen` None every row stays.
    """
    rows = batch.select(SCHEMA.names)
    if seen is None:
        return rows
    new: list[bool] = []
    for digest in batch.column("digest").to_pylist():
        new.append(digest not in seen)
        seen.add(digest)
    return rows.filter(pa.array(new, pa.bool_()))


class _RowGroups:
    """A Parquet file whose row groups hold `ROW_GROUP_SENTENCES` rows, however many come at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._flush(self._rows)
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> int:
        """Add the rows of `batch`; returns how many there are."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._flush(self._rows // ROW_GROUP_SENTENCES * ROW_GROUP_SENTENCES)
        return batch.num_rows

    def _flush(self, rows: int) -> None:
        if rows:
            # One chunk: else the places where batches end would show in the pages of the file.
            table = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
            self._writer.write_table(table.slice(0, rows), row_group_size=ROW_GROUP_SENTENCES)
            self._rows -= rows
            self._waiting = table.slice(rows).to_batches()
