"""Which sentences are trained on together.

The recurrence costs a step for each position of a batch's longest sentence, so sentences of similar length belong
together; the output layer costs by the token, so a batch is a number of tokens, not of sentences.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.model.packed import PackedBatch, pack
from pipeline.text.encoded import EncodedSplit


class Sentences:
    """Batches of whole sentences: a `PackedBatch` for each array of indices of `batches`."""

    def __init__(self, split: EncodedSplit, batches: Sequence[np.ndarray]) -> None:
        self._split, self._batches = split, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> PackedBatch:
        return pack(self._split, self._batches[index])

    def __iter__(self) -> Iterator[PackedBatch]:
        return (self[index] for index in range(len(self)))


def token_budget_batches(split: EncodedSplit, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, a pure function of its arguments: each an array of sentence indices, int64.

    Sentences are sorted by length, equal ones in an order drawn from (seed, epoch), cut so that each batch holds as
    many as fit into `batch_tokens` predicted tokens, and the batches are shuffled. A sentence longer than that is a
    batch of its own. Every sentence occurs exactly once. The cuts depend on nothing but the lengths, so every epoch
    has equally many batches: the step tells the epoch and the position in it.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(split))
    order = order[np.argsort(split.lengths[order], kind="stable")]
    batches = np.split(order, _cuts(split.lengths[order], batch_tokens))
    return [batches[index] for index in generator.permutation(len(batches))]


def _cuts(lengths: np.ndarray, batch_tokens: int) -> list[int]:
    """Where each batch but the first starts: batches are as long as the budget allows, and at least one sentence."""
    ends = np.cumsum(lengths)
    cuts = []
    start = 0
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        start = max(start + 1, int(np.searchsorted(ends, before + batch_tokens, side="right")))
        cuts.append(start)
    return cuts[:-1]
