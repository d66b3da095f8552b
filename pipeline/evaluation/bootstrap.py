"""The bootstrap: how far a figure would vary on other text of the same kind, and where too little text says nothing.

What is drawn with replacement are documents, since the sentences of one hang together: they share its subject and its
author, so drawn one by one they seem to say more than they do (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", chapters 8 and 13; Davison and Hinkley 1997, "Bootstrap Methods and their Application", 3.8, on clusters).
Only where the corpus has no documents are sentences drawn.

Documents differ in length, so n of them say as much as (sum w)^2 / sum w^2 equal ones, w their tokens: their effective
number (Kish 1965, "Survey Sampling"). Plain percentiles are too narrow where that is small, by sqrt((n-1)/n) and by
taking the normal distribution where Student's is due; so the ends lie further out, at the percentiles that Hesterberg
calls expanded (2015, "What Teachers Should Know About the Bootstrap", The American Statistician 69, section 5.3).
`python -m benchmarks.coverage` measures what that gives.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95  # of every interval and verdict that does not say otherwise
# Effective number below which there is no interval: its ends would lie beyond the last of 1,000 resamples.
FEWEST_UNITS = 5.0
NORMAL = NormalDist()


@dataclass(frozen=True)
class Bootstrap:
    """Sums over units drawn with replacement, and how much these units say."""

    sums_BK: np.ndarray  # float64 (resamples, columns)
    documents: int | None  # that were there to be drawn; None: sentences were drawn
    effective: float  # number of units

    def interval(self, figure_B: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Both ends of the two-sided interval of a figure, from its values in all resamples; None: too few units."""
        if self.effective < FEWEST_UNITS:
            return None
        outside = 100 * tail(self.effective, confidence)
        low, high = np.percentile(figure_B, [outside, 100 - outside])
        return float(low), float(high)


def bootstrap(
    columns_KS: np.ndarray, tokens_S: np.ndarray, document_S: np.ndarray | None, resamples: int, seed: int
) -> Bootstrap:
    """Draw documents, as many as there are, and sum up what is in them; `resamples` times.

    Args:
        columns_KS: a value of each of K columns for each of S sentences, at least one.
        tokens_S: predicted tokens of each sentence.
        document_S: the index of the document that each sentence is in, from 0; None: draw sentences.
        resamples: how often all are drawn.
        seed: equal seeds draw equal units.
    """
    if document_S is not None:
        # Bincount adds one by one in the order of sentences, the same on every processor.
        columns_KS = np.stack([np.bincount(document_S, column_S) for column_S in columns_KS])
        tokens_S = np.bincount(document_S, tokens_S)
    generator = np.random.default_rng(seed)
    columns, units = columns_KS.shape
    sums_BK = np.empty((resamples, columns))
    for sample in range(resamples):
        drawn_U = np.bincount(generator.integers(0, units, units), minlength=units)
        # Sums instead of a matrix product: BLAS may add in another order when it has other threads.
        sums_BK[sample] = (columns_KS * drawn_U).sum(axis=1)
    return Bootstrap(sums_BK, None if document_S is None else units, effective_number(tokens_S))


def effective_number(tokens_U: np.ndarray) -> float:
    """How many units of equal length say as much as these: (sum w)^2 / sum w^2, w the tokens of each."""
    return float(tokens_U.sum()) ** 2 / float((tokens_U.astype(np.float64) ** 2).sum())


def tail(effective: float, confidence: float) -> float:
    """The share of resamples beyond each end of an interval: less than (1 - confidence) / 2, the fewer units the less.

    Student's quantile comes from the normal one (Abramowitz and Stegun 1964, 26.7.5): within 1% from `FEWEST_UNITS` on.
    """
    if confidence >= 1:
        return 0.0
    z, free = NORMAL.inv_cdf((1 + confidence) / 2), effective - 1
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return NORMAL.cdf(-student * (effective / free) ** 0.5)


def drawn_in_words(documents: int | None, effective: float) -> str:
    """Such as `175 documents (effective number 45.8)`."""
    what = "sentences, as there are no documents" if documents is None else f"{documents:,} documents"
    return f"{what} (effective number {effective:,.1f})"


def too_few(documents: int | None, effective: float) -> str:
    """Why there is no interval."""
    return (
        f"no interval, as {drawn_in_words(documents, effective)} say too little: at least {FEWEST_UNITS:g} are needed"
    )
