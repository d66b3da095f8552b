"""A model in use: whole as its folder holds it, so that texts are read by its own vocabulary and text rules."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.inference import generation
from pipeline.inference.generation import Decoding
from pipeline.model.batches import token_budget_batches
from pipeline.model.folder import SavedModel, load_model
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokenizer import Tokenizer

BATCH_TOKENS = 8192  # in one forward pass: enough to keep the processor busy; all their logits never exist at once


class Predictor:
    """Scores, suggests and generates with one model, which is in evaluation mode."""

    def __init__(self, saved: SavedModel) -> None:
        self.model, self.vocabulary, self.text = saved.model, saved.vocabulary, saved.text
        self.train = saved.train
        self._tokenizer = Tokenizer(**saved.text.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """The model of a folder; raises what `load_model` does."""
        return cls(load_model(folder))

    def tokens(self, texts: Iterable[str]) -> list[list[str]]:
        """Each text as its tokens; a text is never split into sentences."""
        return [self._tokenizer.tokenize(text) for text in texts]

    def encode(self, sentences: Iterable[Sequence[str]]) -> EncodedSplit:
        """Sentences of tokens as the model reads them."""
        return EncodedSplit.of(self.vocabulary.sentence_ids(tokens) for tokens in sentences)

    def nats(self, split: EncodedSplit) -> np.ndarray:
        """-ln P of each sentence of `split`, float64 (sentences,); see `scoring.score_split` for more."""
        nats = np.zeros(len(split))
        for batch, sentence_N in self.passes(split):
            np.add.at(nats, sentence_N, self.model.nats(batch).cpu().numpy().astype(np.float64))
        return nats

    def suggest(self, prefixes: Sequence[Sequence[str]], count: int) -> list[list[tuple[str, float]]]:
        """The likeliest next words after each of several beginnings, in tokens; see `generation.suggest`."""
        return generation.suggest(self.model, self.vocabulary, prefixes, count)

    def generate(self, prompts: Sequence[Sequence[str]], count: int, decoding: Decoding) -> list[list[list[str]]]:
        """Sentences that begin with each of several prompts, in tokens; see `generation.generate`."""
        return generation.generate(self.model, self.vocabulary, prompts, count, decoding)

    def passes(self, split: EncodedSplit) -> Iterator[tuple[PackedBatch, np.ndarray]]:
        """The batches that go through the model together, on its device, and the sentence that each row belongs to."""
        for sentences in token_budget_batches(split, BATCH_TOKENS, seed=0, epoch=0) if len(split) else ():
            batch = pack(split, sentences).to(self.model.output_weight.device)
            yield batch, batch.order[steps_and_sequences(batch.batch_sizes)[1]]
