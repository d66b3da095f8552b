"""A split as one running text, of which a model carries its state from one window to the next.

Published perplexities of recurrent models are of this kind (Mikolov et al. 2010, "Recurrent neural network based
language model"; Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329). Sentences follow one another in the order of the
split, SENTENCE_END between them; the first word of all follows a SENTENCE_END, too, and SENTENCE_START does not occur.
So every predicted token of the split is a target once, as where sentences stand alone.

For training, the text is cut into B parallel streams of equal length, or one step less, so that no token is left out.
A window is some steps of all streams. Its length is drawn as in AWD-LSTM (Merity, Keskar and Socher 2017,
arXiv:1708.02182, section 5): about `bptt`, seldom about half of it, so that it is not always the same words that the
gradient cannot look back from. As there, the learning rate is in proportion to the length.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.model.cells import State
from pipeline.model.packed import PackedBatch, steps_and_sequences
from pipeline.model.params import FEWEST_STEPS, Context
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID

SPREAD = 5.0  # standard deviation of its steps
FULL_LENGTH = 0.95  # probability that `bptt`, not half of it, is their mean


def context_of(train: Mapping[str, Any]) -> Context:
    """What a model reads before a word, by the section `train` in its config.json; models of before read sentences."""
    return train.get("context", "sentence")


@dataclass
class Carried:
    """What a model carries from window to window: the states of all layers after the last, no gradient through them."""

    states: list[State] | None = None  # each (B, H), for the LSTM two; None: zero, at the beginning of the text

    def first(self, streams: int) -> list[State] | None:
        """The states of the first so many streams: those that have a step left."""
        return self.states and [
            (state[0][:streams], state[1][:streams]) if isinstance(state, tuple) else state[:streams]
            for state in self.states
        ]

    def keep(self, states: list[State]) -> None:
        """Carry on from here."""
        self.states = [
            (state[0].detach(), state[1].detach()) if isinstance(state, tuple) else state.detach() for state in states
        ]


class Windows:
    """The windows of a split that is cut into `streams`, or as many as it has tokens, in order: a `PackedBatch` each.

    They have as many steps as `lengths` says, the last of them what is left.
    """

    def __init__(self, split: EncodedSplit, streams: int, lengths: Iterable[int]) -> None:
        self._text = running_text(split)
        self._streams = min(streams, split.tokens)
        self._steps, self._longer = divmod(split.tokens, self._streams)
        stream_B = np.arange(self._streams)
        self._starts_B = stream_B * self._steps + np.minimum(stream_B, self._longer)
        self._ends = window_ends(self._steps + (self._longer > 0), lengths)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> PackedBatch:
        rows_N, sizes_T = self.tokens(index), self._sizes(index)
        x_N, y_N = (torch.from_numpy(self._text[rows_N + ahead].astype(np.int64)) for ahead in (0, 1))
        return PackedBatch(x_N, y_N, tuple(sizes_T.tolist()), np.arange(sizes_T[0]))

    def tokens(self, index: int) -> np.ndarray:
        """Which predicted token of the split each row of a window is: (N,) int64."""
        step_N, stream_N = steps_and_sequences(self._sizes(index))
        return self._starts_B[stream_N] + self._start(index) + step_N

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0

    def _sizes(self, index: int) -> np.ndarray:
        sizes_T = np.full(self._ends[index] - self._start(index), self._streams)
        if self._ends[index] > self._steps:
            sizes_T[-1] = self._longer
        return sizes_T

    def __iter__(self) -> Iterator[PackedBatch]:
        return (self[index] for index in range(len(self)))


def running_text(split: EncodedSplit) -> np.ndarray:
    """(tokens + 1,) ids: SENTENCE_END, then every predicted token; each is what the next one is predicted from."""
    return np.concatenate((np.array([END_ID], split.ids.dtype), np.delete(split.ids, split.offsets[:-1])))


def window_ends(steps: int, lengths: Iterable[int]) -> list[int]:
    """The step after the last one of each window, where a stream has so many."""
    ends = [0]
    for length in lengths:
        ends.append(min(ends[-1] + length, steps))
        if ends[-1] == steps:
            break
    return ends[1:]


def drawn_lengths(bptt: int, seed: int, epoch: int) -> Iterator[int]:
    """The steps of the windows of an epoch, without end: a function of (seed, epoch)."""
    generator = np.random.default_rng([seed, epoch])
    while True:
        mean = bptt if generator.random() < FULL_LENGTH else bptt / 2
        yield max(FEWEST_STEPS, int(generator.normal(mean, SPREAD)))


def windows_in_all(tokens: int, streams: int, bptt: int, seed: int, epochs: int) -> int:
    """The windows of so many epochs of a split with so many tokens."""
    steps = -(-tokens // min(streams, tokens))
    return sum(len(window_ends(steps, drawn_lengths(bptt, seed, epoch))) for epoch in range(1, epochs + 1))


def pieces(split: EncodedSplit, ids: int) -> EncodedSplit:
    """The running text of a split as pieces of so many ids, two at least, the last of what is left; each a text."""
    text = running_text(split)
    ends = [*range(ids, len(text) - 1, ids), len(text)]
    return EncodedSplit(text, np.array([0, *ends], np.int64))
