"""Documents to tokens, and the file that holds them.

Documents fall into splits, and are cut into sentences and these into tokens; every sentence is kept once. The file is
Parquet, a sentence a row: `document` (the id), `split` (train, valid or test) and `tokens`, where a token is null if
the corpus itself says that the word is unknown. The rows of train come first, then those of valid, then those of test,
each in the order of the documents.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.compute import call_function

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, scratch_folder
from pipeline.runtime.parallel import ordered_map
from pipeline.runtime.progress import Bar
from pipeline.text.deduplication import Deduplication
from pipeline.text.documents import Document, blocks
from pipeline.text.params import TokenizeParams
from pipeline.text.parquet import open_parquet
from pipeline.text.splits import SPLITS, Split, split_of

if TYPE_CHECKING:  # those who only read the file do without NLTK, and do not depend on how it was made
    from pipeline.text.sentences import SentenceSplitter
    from pipeline.text.tokenizer import Tokenizer

SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("element", pa.string())), nullable=False),
    ]
)
ROW_GROUP_SENTENCES = 1 << 16
READ_SENTENCES = 1 << 14
UNKNOWN_MARK = "<unk>"  # an unknown word in corpora that come tokenized

# While sentences wait for deduplication, a digest of their lower-cased tokens is kept beside them; null: keep anyway.
DIGEST_BYTES = 16
WAITING_SCHEMA = SCHEMA.append(pa.field("digest", pa.binary(DIGEST_BYTES)))

BLOCK_CHARACTERS = 1 << 20  # text that one worker gets at a time, but for a longer document
BLOCK_DOCUMENTS = 1 << 14


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


def write_tokens(
    documents: Iterable[Document],
    splitter: "SentenceSplitter",
    tokenizer: "Tokenizer",
    params: TokenizeParams,
    path: Path,
    workers: int,
    bar: Bar,
) -> None:
    """Split, tokenize and deduplicate `documents` into the Parquet file `path`, in blocks.

    A sentence is dropped when an earlier split has it, even further on in the corpus; so sentences wait on disk, a file
    a split, until all are there. Memory does not grow with their number.

    Args:
        documents: what to tokenize.
        splitter: finds the sentences.
        tokenizer: splits them into tokens.
        params: section `tokenize`.
        path: where the rows go, whole or not at all; its bytes do not depend on `workers`.
        workers: number of processes.
        bar: advanced by the number of documents.

    Raises:
        InputError: there is no document, or a split ends up without a sentence.
    """
    make = partial(_BlockTokenizer, splitter, tokenizer, params)
    total = 0
    found = dict.fromkeys(SPLITS, 0)
    kept = dict.fromkeys(SPLITS, 0)
    with (
        atomic_path(path) as temporary,
        _RowGroups(temporary, SCHEMA) as output,
        scratch_folder(path) as folder,
    ):
        waiting: dict[Split, Path] = {split: folder / split for split in SPLITS}
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(pa.ipc.new_file(str(file), WAITING_SCHEMA))
                for split, file in waiting.items()
            }
            in_blocks = blocks(documents, BLOCK_CHARACTERS, BLOCK_DOCUMENTS)
            for documents_done, batches in ordered_map(make, in_blocks, workers):
                total += documents_done
                for split, batch in batches.items():
                    files[split].write_batch(batch)
                    found[split] += batch.num_rows
                bar.advance(documents_done)
        if not total:
            raise InputError("empty corpus: there is no document to tokenize; see section download of params.yaml")
        with Deduplication(folder / "digests", sum(found.values())) as deduplication:
            for batch in _batches(waiting.values()):
                deduplication.add(batch.column("digest"))
            deduplication.decide()
            for split, file in waiting.items():
                for batch in _batches([file]):
                    kept[split] += output.write(batch.select(SCHEMA.names).filter(deduplication.kept(batch.num_rows)))
        _check_not_empty(total, found, kept)


def _batches(files: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


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


class _BlockTokenizer:
    """What a worker does: documents in, rows of `WAITING_SCHEMA` by split out."""

    def __init__(self, splitter: "SentenceSplitter", tokenizer: "Tokenizer", params: TokenizeParams) -> None:
        self._splitter = splitter
        self._tokenizer = tokenizer
        self._params = params

    def __call__(self, block: list[Document]) -> tuple[int, dict[Split, pa.RecordBatch]]:
        rows = {split: _Rows() for split in SPLITS}
        for document in block:
            split = document.split or split_of(document.id, self._params.splits)
            # What comes split and tokenized is a benchmark, whose figures mean something only word by word.
            is_benchmark = document.tokenized and document.split is not None
            sentences = (tokens for tokens in self._sentences(document, is_benchmark) if tokens)
            rows[split].append(document.id, sentences, self._params.deduplicate and not is_benchmark)
        return len(block), {split: rows[split].batch(split) for split in SPLITS}

    def _sentences(self, document: Document, is_benchmark: bool) -> Iterator[Sequence[str | None]]:
        if not document.tokenized:
            yield from map(self._tokenizer.tokenize, self._splitter.split(document.text))
            return
        lowercase = self._params.lowercase and not is_benchmark
        for line in document.text.split("\n"):
            words = (line.lower() if lowercase else line).split()
            yield [None if word == UNKNOWN_MARK else word for word in words]


class _Rows:
    def __init__(self) -> None:
        self._documents: list[str] = []
        self._tokens: list[str | None] = []
        self._offsets = [0]
        self._digests: list[bytes | None] = []

    def append(self, document: str, sentences: Iterable[Sequence[str | None]], deduplicate: bool) -> None:
        for tokens in sentences:
            self._documents.append(document)
            self._tokens += tokens
            self._offsets.append(len(self._tokens))
            self._digests.append(_digest(tokens) if deduplicate else None)

    def batch(self, split: Split) -> pa.RecordBatch:
        columns = [
            pa.array(self._documents, pa.string()),
            pa.array([split] * len(self._documents), pa.string()),
            pa.ListArray.from_arrays(
                pa.array(self._offsets, pa.int32()), pa.array(self._tokens, pa.string()), SCHEMA.field("tokens").type
            ),
            pa.array(self._digests, pa.binary(DIGEST_BYTES)),
        ]
        return pa.record_batch(columns, schema=WAITING_SCHEMA)


def _digest(tokens: Sequence[str | None]) -> bytes:
    # No token holds a space or is empty, so different sentences are different lines.
    line = " ".join(token or "" for token in tokens).lower()
    return hashlib.blake2b(line.encode(), digest_size=DIGEST_BYTES).digest()


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
