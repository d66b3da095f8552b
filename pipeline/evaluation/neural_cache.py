"""The neural cache: words that came before in a text come again, most of all after a similar beginning.

Grave, Joulin and Usunier 2017, "Improving neural language models with a continuous cache", arXiv:1612.04426. Every word
read is kept beside the state h that it was predicted from, the last `window` of them. With h_t the state at hand

    P_cache(w) = sum over i < t in the window, x_i = w, of softmax_i(theta h_t . h_i)

where x_i is the word that h_i predicted. Nothing is trained. Where nothing was read yet there is no P_cache.

Shape suffixes: R rows of a block, J words read, those of the block included, C words of the vocabulary, H hidden units.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.reading import Block
from pipeline.model.arithmetic import product


class Memory:
    """The last words read, and their states."""

    def __init__(self, longest: int) -> None:
        """Keep so many."""
        self._longest = longest
        self._h_JH, self._words_J = torch.empty(0, 0), torch.empty(0, dtype=torch.int64)

    def read(self, block: Block) -> "Recalled":
        """What each row of a block recalls, which is only of what came before it; then keep the block."""
        past = len(self._words_J)
        self._h_JH = torch.cat((self._h_JH, block.h_RH)) if past else block.h_RH
        self._words_J = torch.cat((self._words_J.to(block.y_R), block.y_R))
        row_R1 = torch.arange(len(block.y_R), device=block.y_R.device).unsqueeze(1) + past
        back_RJ = row_R1 - torch.arange(len(self._words_J), device=block.y_R.device)
        similar_RJ = product(block.h_RH, self._h_JH.t()).masked_fill_(back_RJ < 1, -torch.inf)
        recalled = Recalled(similar_RJ, self._words_J, back_RJ)
        self._h_JH, self._words_J = self._h_JH[-self._longest :], self._words_J[-self._longest :]
        return recalled


class Recalled(NamedTuple):
    """How similar the state of each row is to those of the words read."""

    similar_RJ: Tensor  # -inf: not to be recalled
    words_J: Tensor
    back_RJ: Tensor  # how many words ago

    def within(self, window: int) -> "Recalled":
        """The same of the last `window` words alone."""
        first = max(0, int(self.back_RJ[0, 0]) - window)
        similar_RJ, words_J, back_RJ = self.similar_RJ[:, first:], self.words_J[first:], self.back_RJ[:, first:]
        return Recalled(similar_RJ.masked_fill(back_RJ > window, -torch.inf), words_J, back_RJ)

    def shares(self, theta: float) -> Tensor:
        """The probability with which each row recalls each word (R, J); zeros where nothing was read before."""
        shares_RJ = torch.softmax(self.similar_RJ * theta, 1)
        if self.back_RJ[0, 0] == 0:
            shares_RJ[0] = 0.0  # a softmax of nothing is no number
        return shares_RJ

    def of_targets(self, y_R: Tensor, thetas: tuple[float, ...]) -> np.ndarray:
        """P_cache of the target of each row, by each theta: (thetas, R) float64."""
        row_K, word_K = (self.words_J == y_R.unsqueeze(1)).nonzero(as_tuple=True)
        rows_K = row_K.cpu().numpy()
        shares = (self.shares(theta)[row_K, word_K].cpu().numpy() for theta in thetas)
        return np.stack([np.bincount(rows_K, shares_K, len(y_R)) for shares_K in shares])

    def of_all_words(self, theta: float, size: int) -> Tensor:
        """P_cache of all words of a vocabulary of this size: (R, C)."""
        shares_RJ = self.shares(theta)
        p_RC = shares_RJ.new_zeros(len(shares_RJ), size)
        return p_RC.scatter_add_(1, self.words_J.expand(len(shares_RJ), -1), shares_RJ)
