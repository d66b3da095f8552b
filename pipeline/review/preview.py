"""What the stages would read, before any of them runs: the first of it, sums, and how long training would take.

The stages' own code does all of it, in a folder that goes away. Of a large corpus only the first part becomes
sentences; the rest is read for a few seconds, to know its size.
"""

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from pipeline.model.language_model import LanguageModel
from pipeline.params import Params
from pipeline.runtime.pins import read_constraints, write_pins
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import Bar, duration
from pipeline.runtime.remarks import Remarks
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.documents import Document, read_documents, write_documents
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.sentences import TRAIN, SentenceSplitter, training_sample
from pipeline.text.sources.corpus import documents
from pipeline.text.sources.fetch import Fetcher, mirror_folder
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import read_tokens, write_tokens
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.trainer import Trainer

PREVIEW_CHARACTERS = 2_000_000  # that become sentences
PREVIEW_SECONDS = 5.0  # of reading on, for the size of what is larger
SHOWN_FIRST = 3  # documents, and sentences
PREVIEW_WIDTH = 76  # characters of each


class _Part:
    """The first documents of a corpus, and what they are of its text.

    Attributes:
        share: of its characters; None where that took too long to know, and the bytes that are left do not tell.
        is_estimate: whether it was worked out from these.
    """

    def __init__(self, remarks: Remarks, is_one: bool) -> None:
        """`is_one`: whether `remarks` knows what all of the corpus holds as soon as the first file is read."""
        self.share: float | None = 1.0
        self.is_estimate = False
        self._remarks, self._is_one = remarks, is_one

    def of(self, found: Iterator[Document]) -> Iterator[Document]:
        characters = 0
        for document in found:
            characters += len(document.text)
            yield document
            if characters >= PREVIEW_CHARACTERS:
                break
        total, until = characters, time.monotonic() + PREVIEW_SECONDS
        for document in found:
            total += len(document.text)
            if time.monotonic() > until:
                read = self._remarks.bytes_read / self._remarks.bytes_held if self._is_one else 0
                self.is_estimate = 0 < read <= 1
                self.share = read * characters / total if self.is_estimate else None
                return
        self.share = characters / total if total else 1.0


def look(params: Params) -> Iterator[str]:
    """The lines that `rnnlm corpus` prints, as soon as they are known; nothing of the project changes.

    Raises:
        InputError: as the stages `download` and `tokenize` do.
    """
    remarks, bar, workers = Remarks(), Bar(), available_processors()
    part = _Part(remarks, params.download.source == "files")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pins, raw, tokens = folder / "corpus.txt", folder / "documents.parquet", folder / "sentences.parquet"
        write_pins(read_constraints(Path("constraints.txt")), params.download.packages, pins)
        fetcher = Fetcher(params.download.max_bytes, mirror=mirror_folder())
        write_documents(part.of(documents(params.download, pins, fetcher, remarks)), raw)
        yield "The first documents:"
        yield from (f"  {_short(document.text)}" for document in islice(read_documents(raw), SHOWN_FIRST))
        if part.share != 1:
            size = "more than can be read in seconds" if part.share is None else f"{part.share:.0%} of its text"
            told = " by an estimate from the bytes that are left" if part.is_estimate else ""
            yield f"The corpus is large: what follows is about its first part, {size}{told}."
        sample = training_sample(read_documents(raw)) if params.tokenize.language == TRAIN else ()
        splitter = SentenceSplitter(params.tokenize.language, sample)
        tokenizer = Tokenizer(params.tokenize.lowercase, params.tokenize.by_character)
        write_tokens(read_documents(raw), splitter, tokenizer, params.tokenize, tokens, workers, bar, remarks)
        yield "The first sentences of the training split, as tokens:"
        rows = next(read_tokens(tokens, "train")).slice(0, SHOWN_FIRST).to_pylist()
        yield from (f"  {_short(' '.join(word or '<unknown>' for word in row))}" for row in rows)
        vocabulary = build_vocabulary(count_words(tokens, "train", folder, workers, bar), params.vocabulary.size)
        encode_tokens(tokens, vocabulary, folder, workers, bar)
        yield from remarks.lines()
        yield f"vocabulary: {len(vocabulary):,} words, the special tokens included"
        splits = [load_split(folder / split) for split in SPLITS]
        for split, found in zip(SPLITS, splits, strict=True):
            unknown = int((found.ids == vocabulary.unknown_id).sum()) / found.tokens
            yield f"{split}: {len(found):,} sentences, {found.tokens:,} tokens, {unknown:.1%} of them unknown words"
        yield from _training(params, splits[0], splits[1], vocabulary, part)


def _training(
    params: Params, train: EncodedSplit, valid: EncodedSplit, vocabulary: Vocabulary, part: _Part
) -> Iterator[str]:
    """How long each cell would train on this machine, by a few steps of each."""
    share = part.share
    for cell in params.cells.values():
        settings = in_numbers(cell.train, cell.model, round(train.tokens / (share or 1.0)))
        model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(settings.seed))
        seconds = Trainer(model, train, valid, vocabulary.counts, settings).expected_seconds() * cell.seeds
        about = "an estimated" if part.is_estimate else "about"
        told = f"{about} {duration(seconds / share)}" if share else f"more than {duration(seconds)}"
        tokens = settings.batch_tokens if settings.context == "sentence" else settings.streams * settings.bptt
        yield (
            f"training {cell.name}: {told} ({settings.epochs} epochs, {tokens:,} tokens a batch, "
            f"rate {settings.learning_rate:g})"
        )


def _short(text: str) -> str:
    # Text may hold what steers a terminal.
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= PREVIEW_WIDTH else f"{line[: PREVIEW_WIDTH - 3]}..."
