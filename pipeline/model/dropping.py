"""What a training step leaves out at random, so that a model does not learn its text by heart.

Plain dropout (`model.dropout`) draws a mask anew for each word. Here a mask is drawn once for a step and stays:

- **Locked dropout** (Gal and Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural
  networks", arXiv:1512.05287): one mask for each sequence of the batch, the same at all of its steps.
  Of the states it is what the next step's recurrent products read that is dropped; what a cell adds up or hands on
  is not: the LSTM's c, and the state that the GRU mixes.
- **Dropped words** (the same paper; Merity, Keskar and Socher 2017, arXiv:1708.02182, call it embedding dropout): one
  mask over the vocabulary; a dropped word is zero wherever it is read in the batch.
- **Dropped recurrent weights** (DropConnect, Wan et al. 2013; Merity, Keskar and Socher 2017, call it weight drop): one
  mask over each W.

What is left is scaled by 1 / (1 - rate), so that its expectation stays.

Shape suffixes: N rows of a packed batch, B sequences, X units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.model.packed import steps_and_sequences


@dataclass(frozen=True)
class Dropping:
    """Rates, each from 0 to below 1; at 0 nothing is drawn."""

    inputs: float = 0.0  # of the units that a layer reads: of the layer below, and of the embedding, unless that has
    embedding: float | None = None  # a rate of its own
    outputs: float = 0.0  # of the units that the output layer reads
    words: float = 0.0  # of the vocabulary
    states: float = 0.0  # of the units that a layer reads of its own last state
    recurrent_weights: float = 0.0  # of the numbers in each W

    def locked(
        self, x_NX: Tensor, batch_sizes: Sequence[int], rate: float, generator: torch.Generator | None
    ) -> Tensor:
        """The rows of a packed batch, those of a sequence without the same units."""
        if not rate:
            return x_NX
        mask_BX = mask(x_NX, (batch_sizes[0], x_NX.shape[1]), rate, generator)
        sequence_N = torch.from_numpy(steps_and_sequences(batch_sizes)[1]).to(x_NX.device)
        return x_NX * mask_BX[sequence_N]

    def of_states(self, like: Tensor, sequences: int, size: int, generator: torch.Generator | None) -> Tensor | None:
        """The factor on what the recurrent products read of a layer's states (B, H); None: 1."""
        return mask(like, (sequences, size), self.states, generator) if self.states else None

    def without_weights(self, W: Tensor, generator: torch.Generator | None) -> Tensor:
        """A recurrent weight without some of its numbers."""
        return W * mask(W, W.shape, self.recurrent_weights, generator) if self.recurrent_weights else W

    def without_words(
        self, x_NX: Tensor, ids_N: Tensor, vocabulary_size: int, generator: torch.Generator | None
    ) -> Tensor:
        """The embedded rows, those of dropped words zero; `ids_N` says which words they are."""
        if not self.words:
            return x_NX
        return x_NX * mask(x_NX, (vocabulary_size, 1), self.words, generator)[ids_N]


def mask(like: Tensor, shape: Sequence[int], rate: float, generator: torch.Generator | None) -> Tensor:
    """Zeros at this rate and else 1 / (1 - rate), of the type and on the device of `like`."""
    return like.new_empty(shape).bernoulli_(1 - rate, generator=generator).div_(1 - rate)
