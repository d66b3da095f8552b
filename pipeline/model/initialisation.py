"""Where weights start (DESIGN section 2, after the WildML RNN tutorial)."""

from math import sqrt
from typing import Literal

import torch
from torch import Tensor


def uniform(weight: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill `weight` evenly from [-bound, bound)."""
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def incoming(connections: int) -> float:
    """The bound 1/sqrt(n) of a weight whose units have n incoming connections.

    The notes print sqrt(n), the tutorial that they summarise 1/sqrt(n); sqrt(n) would saturate tanh at once.
    """
    return 1 / sqrt(connections)


def lookup(setting: float | Literal["incoming"] | None, width: int, vocabulary_size: int) -> float:
    """The bound of a look-up table, one of whose rows is active at a time.

    Args:
        setting: `lookup_init` of params.yaml: None is 1/sqrt(width); "incoming" the notes' rule, which counts the whole
            vocabulary as connected; a number is the bound itself.
        width: embedding dimension, or hidden size where words go straight to the cell.
        vocabulary_size: rows of the table.
    """
    if setting is None:
        return incoming(width)
    return incoming(vocabulary_size) if setting == "incoming" else setting
