"""Sentences of different lengths laid end to end without padding.

The layout is that of torch's PackedSequence: sequences sorted longest first; first the rows of step 0 of all of them,
then the rows of step 1 of those that have one, and so on. The rows of a step are contiguous, so a product over a step
(or over the whole batch) is one matrix product, and row b of a step is always sequence b.

Shape suffixes: N rows of the batch, T steps, B sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.text.encoded import EncodedSplit


@dataclass(frozen=True)
class PackedBatch:
    """What one step of training or evaluation reads."""

    x_N: Tensor  # int64: ids that go in
    y_N: Tensor  # int64: ids to predict; row n follows row n of `x_N` in its sentence
    batch_sizes: tuple[int, ...]  # sequences still running at each step, never rising; their sum is N
    order: np.ndarray  # for sequence b, the index of its sentence in the split

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on `device`."""
        return PackedBatch(self.x_N.to(device), self.y_N.to(device), self.batch_sizes, self.order)


def pack(split: EncodedSplit, sentences: Sequence[int] | np.ndarray) -> PackedBatch:
    """Put `sentences` of a split, at least one index, into a batch: longest first, equal lengths in the order given."""
    sentences = np.asarray(sentences, dtype=np.int64)
    if not len(sentences):
        raise ValueError("pack needs at least one sentence")
    lengths = split.lengths[sentences]
    longest_first = np.argsort(-lengths, kind="stable")
    order, lengths = sentences[longest_first], lengths[longest_first]
    # sequences that reach step t = sequences - those of length <= t
    batch_sizes = len(order) - np.searchsorted(lengths[::-1], np.arange(lengths[0]), side="right")
    step_N, sequence_N = steps_and_sequences(batch_sizes)
    rows_N = split.offsets[order][sequence_N] + step_N
    x_N = torch.from_numpy(split.ids[rows_N].astype(np.int64))
    y_N = torch.from_numpy(split.ids[rows_N + 1].astype(np.int64))
    return PackedBatch(x_N, y_N, tuple(batch_sizes.tolist()), order)


def steps_and_sequences(batch_sizes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row of a packed batch, which step and which sequence it is: two arrays (N,) of int64."""
    sizes_T = np.asarray(batch_sizes, dtype=np.int64)
    step_N = np.repeat(np.arange(len(sizes_T)), sizes_T)
    starts_T = np.cumsum(sizes_T) - sizes_T
    return step_N, np.arange(len(step_N)) - starts_T[step_N]


def previous_rows(batch_sizes: Sequence[int]) -> Tensor:
    """For every row from step 1 on, the row of the same sequence one step earlier: (N - B,) int64."""
    sizes_T = torch.tensor(batch_sizes)
    rows = torch.arange(batch_sizes[0], sum(batch_sizes))
    return rows - torch.repeat_interleave(sizes_T[:-1], sizes_T[1:])


def last_rows(batch_sizes: Sequence[int]) -> Tensor:
    """For every sequence, the row of its last step: (B,) int64."""
    sizes_T = np.asarray(batch_sizes, dtype=np.int64)
    sequence_B = np.arange(sizes_T[0])
    length_B = np.searchsorted(-sizes_T, -sequence_B, side="left")
    return torch.from_numpy((np.cumsum(sizes_T) - sizes_T)[length_B - 1] + sequence_B)
