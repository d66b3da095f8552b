"""A model in use: whole as its folder holds it, so that texts are read by its own vocabulary and text rules."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import repeat
from pathlib import Path

import numpy as np

from pipeline.inference import generation
from pipeline.inference.generation import Decoding
from pipeline.model.batches import token_budget_batches
from pipeline.model.folder import SavedModel, load_model
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.model.params import Context
from pipeline.model.streams import Carried, Windows, context_of
from pipeline.text.encoded import EncodedSplit
from pipeline.text.marks import tokens_of
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import END_ID, START_ID

BATCH_TOKENS = 8192  # in one forward pass: enough to keep the processor busy; all their logits never exist at once


class Predictor:
    """Scores, suggests and generates with one model, which is in evaluation mode.

    As it was trained (`train.context`), it reads sentences each by itself, or as one text, in their order. What is to
    be completed is a text of its own in both.
    """

    def __init__(self, saved: SavedModel) -> None:
        self.model, self.vocabulary, self.text = saved.model, saved.vocabulary, saved.text
        self.train = saved.train
        self.context: Context = context_of(saved.train)
        self._start = START_ID if self.context == "sentence" else END_ID  # what the first word of a text follows
        self._tokenizer = Tokenizer(**saved.text.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """The model of a folder; raises what `load_model` does."""
        return cls(load_model(folder))

    def tokens(self, texts: Iterable[str], tokenized: bool = False) -> list[list[str]]:
        """Each text as its tokens; a text is never split into sentences.

        Raises:
            InputError: the texts are said to be `tokenized`, with spaces between tokens, and one cannot be.
        """
        return tokens_of_texts(self._tokenizer, texts, tokenized)

    def encode(self, sentences: Iterable[Sequence[str]]) -> EncodedSplit:
        """Sentences of tokens as the model reads them."""
        ids = map(self.vocabulary.sentence_ids, sentences)
        return EncodedSplit.of([self._start, *sentence[1:]] for sentence in ids)

    def one_by_one(self) -> "Predictor":
        """The same model for sentences that are no neighbours, say alternatives: each is a text of its own."""
        other = copy(self)
        other.context = "sentence"
        return other

    def nats(self, split: EncodedSplit, carried: Carried | None = None) -> np.ndarray:
        """-ln P of each sentence of `split`, float64 (sentences,); see `scoring.score_split` for more."""
        nats, sentence_of = np.zeros(len(split)), sentences_of_tokens(split)
        for batch, token_N, before in self.passes(split, carried):
            np.add.at(nats, sentence_of[token_N], self.model.nats(batch, before).cpu().numpy().astype(np.float64))
        return nats

    def suggest(self, prefixes: Sequence[Sequence[str]], count: int) -> list[list[tuple[str, float]]]:
        """The likeliest next words after each of several beginnings, in tokens; see `generation.suggest`."""
        return generation.suggest(self.model, self.vocabulary, prefixes, count, self._start)

    def generate(self, prompts: Sequence[Sequence[str]], count: int, decoding: Decoding) -> list[list[list[str]]]:
        """Sentences that begin with each of several prompts, in tokens; see `generation.generate`."""
        return generation.generate(self.model, self.vocabulary, prompts, count, decoding, self._start)

    def passes(
        self, split: EncodedSplit, carried: Carried | None = None
    ) -> Iterator[tuple[PackedBatch, np.ndarray, Carried | None]]:
        """The batches that go through the model together, on its device.

        With each which of the predicted tokens of the split its rows are, and what the model goes on from, as
        `LanguageModel.score` takes it. Where a model reads one text, `carried` is of what was read of it before.
        """
        device = self.model.output_weight.device
        if not len(split):
            return
        if self.context == "sentence":
            starts = np.cumsum(split.lengths) - split.lengths
            for sentences in token_budget_batches(split, BATCH_TOKENS, seed=0, epoch=0):
                batch = pack(split, sentences).to(device)
                step_N, sequence_N = steps_and_sequences(batch.batch_sizes)
                yield batch, starts[batch.order][sequence_N] + step_N, None
            return
        carried, read = carried or Carried(), 0
        for batch in Windows(split, 1, repeat(BATCH_TOKENS)):
            yield batch.to(device), np.arange(read, read + len(batch.y_N)), carried
            read += len(batch.y_N)


def tokens_of_texts(tokenizer: Tokenizer, texts: Iterable[str], tokenized: bool = False) -> list[list[str]]:
    """See `Predictor.tokens`."""
    return [tokens_of(text) if tokenized else tokenizer.tokenize(text) for text in texts]


def sentences_of_tokens(split: EncodedSplit) -> np.ndarray:
    """(tokens,) int64: which sentence each predicted token of a split is in."""
    return np.repeat(np.arange(len(split)), split.lengths)
