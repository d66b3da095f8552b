"""Documents to tokens, and the file that holds them.

Documents fall into splits and are cut into sentences, and these into tokens; every sentence is kept once. The file is
Parquet, a sentence a row: `document` (the id, empty in corpora that come split and tokenized: their lines are no
documents), `split` (train, valid or test) and `tokens`, where null is a word that the corpus itself marks as unknown.
Rows of train come first, then valid, then test, each in document order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.compute import call_function

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, scratch_folder
from pipeline.runtime.parallel import ordered_map
from pipeline.runtime.progress import Bar
from pipeline.runtime.remarks import Remarks
from pipeline.text.deduplication import Deduplication
from pipeline.text.documents import Document, blocks
from pipeline.text.marks import holds_marks, sentences_of
from pipeline.text.params import BY_CHARACTER, TokenizeParams
from pipeline.text.parquet import arrays, open_parquet
from pipeline.text.scripts import is_unspaced, unspaced_characters
from pipeline.text.splits import SPLITS, Split, split_of

if TYPE_CHECKING:  # readers of the file need no NLTK, and do not depend on how it was made
    from pipeline.text.sentences import SentenceSplitter
    from pipeline.text.tokenizer import Tokenizer

TOKEN_SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("element", pa.string())), nullable=False),
    ]
)
ROW_GROUP_SENTENCES = 1 << 16
READ_SENTENCES = 1 << 14
MANY_MARKED = 0.01  # share of the documents
NO_DOCUMENT = ""

# While sentences wait for deduplication, a digest of their lower-cased tokens is kept beside them; null: keep anyway.
DIGEST_BYTES = 16
WAITING_SCHEMA = TOKEN_SCHEMA.append(pa.field("digest", pa.binary(DIGEST_BYTES)))

BLOCK_CHARACTERS = 1 << 20  # text for a worker at a time; a longer document goes whole
BLOCK_DOCUMENTS = 1 << 14


def read_tokens(path: Path, split: Split) -> Iterator[pa.ListArray]:
    """Yield the sentences of one split of a file of tokens, in blocks: an array of lists of strings.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    with open_parquet(path, TOKEN_SCHEMA, "tokenize") as file:
        for batch in file.iter_batches(READ_SENTENCES, columns=["split", "tokens"]):
            rows = batch.column("tokens").filter(call_function("equal", [batch.column("split"), pa.scalar(split)]))
            rows.validate(full=True)  # the reader itself does not look whether words are UTF-8
            yield rows


def read_documents_of(path: Path, split: Split) -> np.ndarray | None:
    """The index of the document of each sentence of one split, from 0 in the order in which they come.

    Returns:
        (sentences,) int32, in the order of `read_tokens`; None where the corpus has no documents.

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    index: dict[str, int] = {}
    found = [np.empty(0, np.int32)]
    with open_parquet(path, TOKEN_SCHEMA, "tokenize") as file:
        for batch in file.iter_batches(READ_SENTENCES, columns=["document", "split"]):
            of_split = call_function("equal", [batch.column("split"), pa.scalar(split)])
            names = batch.column("document").filter(of_split).dictionary_encode()
            places = np.array([index.setdefault(name, len(index)) for name in names.dictionary.to_pylist()], np.int32)
            found.append(places[names.indices.to_numpy()])
    return None if NO_DOCUMENT in index else np.concatenate(found)


def write_tokens(
    documents: Iterable[Document],
    splitter: "SentenceSplitter",
    tokenizer: "Tokenizer",
    params: TokenizeParams,
    path: Path,
    workers: int,
    bar: Bar,
    remarks: Remarks | None = None,
) -> None:
    """Split, tokenize and deduplicate `documents` into the Parquet file `path`, in blocks.

    A sentence is dropped if an earlier split has it, even further on in the corpus; so sentences wait on disk, one file
    per split, until all are there. Memory does not grow with their number.

    The file appears whole or not at all, and its bytes do not depend on `workers`, the number of processes. `bar`
    advances by documents. What became of each sentence is counted in `remarks`.

    Raises:
        InputError: there is no document, or a split ends up without a sentence.
    """
    tokenize = partial(_tokenize_block, splitter, tokenizer, params)
    seen: Counter[str] = Counter()
    distinct: set[str] = set()

    def noted() -> Iterator[Document]:
        for document in documents:
            if len(distinct) < len(SPLITS):
                distinct.add(document.id)
            yield document

    found = dict.fromkeys(SPLITS, 0)
    kept = dict.fromkeys(SPLITS, 0)
    with atomic_path(path) as temporary, scratch_folder(path) as folder:
        waiting: dict[Split, Path] = {split: folder / split for split in SPLITS}
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(pa.ipc.new_stream(str(file), WAITING_SCHEMA))
                for split, file in waiting.items()
            }
            in_blocks = blocks(noted(), BLOCK_CHARACTERS, BLOCK_DOCUMENTS)
            for seen_there, batches in ordered_map(tokenize, in_blocks, workers):
                seen.update(seen_there)
                for split, batch in batches.items():
                    files[split].write_batch(batch)
                    found[split] += batch.num_rows
                bar.advance(seen_there["documents"])
        if not seen["documents"]:
            raise InputError("empty corpus: there is no document to tokenize; see section download of params.yaml")
        with Deduplication(folder / "digests", sum(found.values())) as deduplication:
            for file in waiting.values():
                for batch in _batches(file):
                    deduplication.add(batch.column("digest"))
            deduplication.decide()

            def kept_rows() -> Iterator[pa.RecordBatch]:
                for split, file in waiting.items():
                    for batch in _batches(file):
                        rows = batch.select(TOKEN_SCHEMA.names).filter(deduplication.kept(batch.num_rows))
                        kept[split] += rows.num_rows
                        yield rows

            _write_rows(kept_rows(), temporary)
        _check_not_empty(seen["documents"], len(distinct), found, kept)
    if remarks:
        remarks.count("sentences", "kept", sum(kept.values()))
        if params.deduplicate:
            remarks.count("sentences", "there before", sum(found.values()) - sum(kept.values()))
        _warn_of_text(seen, params, remarks)


def _warn_of_text(seen: Counter[str], params: TokenizeParams, remarks: Remarks) -> None:
    """Say what makes figures mean nothing: words that are not split, and special tokens that are taken for words."""
    if not params.by_character and is_unspaced(seen["characters"], seen["unspaced"], seen["blanks"]):
        remarks.warn(
            f"{seen['unspaced'] / seen['characters']:.0%} of the characters are of a script without spaces between "
            "words (Chinese, Japanese, Thai and others), so neither sentences nor words were split and no figure means "
            f"anything; set tokenize.language to `{BY_CHARACTER}`, or put spaces between words first, with a tool for "
            "that language"
        )
    if seen["marked"] > MANY_MARKED * seen["documents"]:
        remarks.warn(
            f"{seen['marked']:,} documents hold special tokens such as <unk> or </s>, which are read as words; if the "
            "text is tokenized already, name it in download.sources with `tokenized: true`"
        )


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as reader:
        yield from reader


def _check_not_empty(documents: int, distinct: int, found: dict[Split, int], kept: dict[Split, int]) -> None:
    """Raise where a split is empty; `distinct` counts documents of different ids up to the number of splits."""
    there, advice = f"{documents:,} documents", "use more documents, or raise tokenize.splits.{split}"
    if distinct < len(SPLITS):
        there = f"{('one', 'two')[distinct - 1]} distinct document{'s' if distinct > 1 else ''}"
        there += f", given {documents:,} times," if documents > distinct else ""
        advice = "each split needs one of its own, so cut the text into more (docs/corpus.md says what a document is)"
    for split in SPLITS:
        if not kept[split]:
            reason = "no document with a sentence falls into it"
            if found[split]:
                reason = (
                    f"earlier splits hold all {found[split]} of its sentences (tokenize.deduplicate drops those; "
                    "`false` keeps them)"
                )
            others = " and ".join(f"{number:,} in {name}" for name, number in kept.items() if number)
            raise InputError(
                f"the {split} split of {there} is empty: {reason}"
                f"{f' (sentences: {others})' if others else ''}; {advice.format(split=split)}"
            )


def _tokenize_block(
    splitter: "SentenceSplitter", tokenizer: "Tokenizer", params: TokenizeParams, block: list[Document]
) -> tuple[Counter[str], dict[Split, pa.RecordBatch]]:
    """What a worker does: documents in, what was seen in them and rows of `WAITING_SCHEMA` by split out."""
    seen = Counter(documents=len(block))
    rows: dict[Split, list[tuple]] = defaultdict(list)
    for document in block:
        split = document.split or split_of(document.id, params.splits)
        # What comes split and tokenized is a benchmark, whose figures mean something only word by word.
        is_benchmark = document.tokenized and document.split is not None
        if document.tokenized:
            text = document.text.lower() if params.lowercase and not is_benchmark else document.text
            lines = map(str.split, text.split("\n"))
            sentences = (sentence for words in lines for sentence in sentences_of(words))
        else:
            unspaced, blanks = unspaced_characters(document.text)
            marked = holds_marks(document.text)
            seen.update(characters=len(document.text), unspaced=unspaced, blanks=blanks, marked=marked)
            sentences = map(tokenizer.tokenize, splitter.split(document.text))
        for tokens in filter(None, sentences):
            digest = _digest(tokens) if params.deduplicate and not is_benchmark else None
            rows[split].append((NO_DOCUMENT if is_benchmark else document.id, split, tokens, digest))
    return seen, {
        split: pa.record_batch(arrays(found, WAITING_SCHEMA), WAITING_SCHEMA) for split, found in rows.items()
    }


def _digest(tokens: Sequence[str | None]) -> bytes:
    # No token holds a space or is empty, so different sentences are different lines.
    line = " ".join(token or "" for token in tokens).lower()
    return hashlib.blake2b(line.encode(), digest_size=DIGEST_BYTES).digest()


def _write_rows(batches: Iterable[pa.RecordBatch], path: Path) -> None:
    """Write a Parquet file whose row groups hold `ROW_GROUP_SENTENCES` rows, however many come at a time."""
    with pq.ParquetWriter(path, TOKEN_SCHEMA, compression="zstd") as writer:
        waiting = TOKEN_SCHEMA.empty_table()
        for batch in batches:
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
            if whole := waiting.num_rows // ROW_GROUP_SENTENCES * ROW_GROUP_SENTENCES:
                # One chunk: else the places where batches end would show in the pages of the file.
                waiting = waiting.combine_chunks()
                writer.write_table(waiting.slice(0, whole), row_group_size=ROW_GROUP_SENTENCES)
                waiting = waiting.slice(whole)
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks())
