"""Words that a network reads alike: whose rows of its look-up table point the same way."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from pipeline.model.arithmetic import product
from pipeline.model.language_model import LanguageModel, Layer


@torch.no_grad()
def nearest(model: LanguageModel, words: range, queries: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """For each of some words the `count` nearest others, by the cosine of the angle between their rows.

    The rows are those of the embedding E, or of U where words go straight to the cell.

    Args:
        words: ids that may be near, at least two.
        queries: ids among `words`, at least one.
        count: at most one fewer than `words`.

    Returns:
        Ids (Q, count) and cosines (Q, count), the nearest first.
    """
    rows_CX = cast(Layer, model.layers[0]).U if model.E is None else model.E
    rows_MX = rows_CX[words.start : words.stop].detach()
    length_M1 = product(rows_MX * rows_MX, rows_MX.new_ones(rows_MX.shape[1], 1)).sqrt().clip(min=1e-9)
    unit_MX = rows_MX / length_M1
    queries_Q = torch.tensor(queries) - words.start
    cosine_QM = product(unit_MX[queries_Q], unit_MX.t())
    cosine_QM[torch.arange(len(queries_Q)), queries_Q] = -torch.inf  # not itself
    best = cosine_QM.topk(count)
    return best.indices + words.start, best.values
