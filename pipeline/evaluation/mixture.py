"""Weights of a mixture of probabilities, by what it costs to predict some text with it.

EM for mixture weights (Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse
data"): each part's weight becomes the mean share that it has in the probability of a word. The cost is convex in the
weights, so this ends in the best of them.

Shape suffixes: K parts, N words.
"""

from collections.abc import Sequence

import numpy as np

STEPS = 60
WEIGHT_DECIMALS = 3  # of weights: what is chosen can be read, and changes no perplexity by as much as a thousandth


def mixture_weights(p_KN: Sequence[np.ndarray]) -> list[float]:
    """The weights by which words of these probabilities, by each part, are predicted best.

    The first is what the others leave of 1, a thousandth at least: a cache alone finds new words impossible.
    """
    stacked_KN = np.stack(p_KN)
    weight_K1 = np.full((len(stacked_KN), 1), 1 / len(stacked_KN))
    for _ in range(STEPS if len(stacked_KN) > 1 else 0):
        joint_KN = weight_K1 * stacked_KN
        weight_K1 = (joint_KN / joint_KN.sum(0)).mean(1, keepdims=True)
    others = [int(weight * (10**WEIGHT_DECIMALS - 1)) for weight in weight_K1[1:, 0]]
    return [weight / 10**WEIGHT_DECIMALS for weight in (10**WEIGHT_DECIMALS - sum(others), *others)]


def mixed(weights: Sequence[float], p_KN: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities by the mixture, (N,)."""
    return sum((weight * p_N for weight, p_N in zip(weights, p_KN, strict=True)), np.zeros(len(p_KN[0])))


def mean_nats(weights: Sequence[float], p_KN: Sequence[np.ndarray]) -> float:
    """What a word costs by the mixture; infinity where a probability is 0 or none."""
    p_N = mixed(weights, p_KN)
    return float(-np.log(p_N).mean()) if (p_N > 0).all() else float("inf")
