"""The bootstrap over sentences: how far a figure would vary on other sentences of the same kind.

Sentences are drawn, not tokens, because the words of one sentence depend on each other (Efron and Tibshirani 1993,
"An Introduction to the Bootstrap", chapters 8 and 13).
"""

import numpy as np

INTERVAL = 95  # percent


def resampled_sums(columns_KS: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over sentences drawn with replacement, as many as there are: float64 `(resamples, columns)`.

    Args:
        columns_KS: a value of each of K columns for each of S sentences, at least one.
        resamples: how often all sentences are drawn.
        seed: equal seeds draw equal sentences.
    """
    generator = np.random.default_rng(seed)
    columns, sentences = columns_KS.shape
    sums_BK = np.empty((resamples, columns))
    for sample in range(resamples):
        drawn_S = np.bincount(generator.integers(0, sentences, sentences), minlength=sentences)
        # Sums instead of a matrix product: BLAS may add in another order when it has other threads.
        sums_BK[sample] = (columns_KS * drawn_S).sum(axis=1)
    return sums_BK


def interval(figure_B: np.ndarray) -> tuple[float, float]:
    """Both ends of the percentile interval of a figure, from its values in all resamples."""
    low, high = np.percentile(figure_B, [(100 - INTERVAL) / 2, (100 + INTERVAL) / 2])
    return float(low), float(high)
