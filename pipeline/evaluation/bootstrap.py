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

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

CONFIDENCE = 0.95  # of every interval and verdict that does not say otherwise
# Effective number below which there is no interval: its ends would lie beyond the last of 1,000 resamples.
FEWEST_UNITS = 5.0
FEWEST_DEGREES = 3.0  # of freedom: with less, what is below for Student's quantile is no longer near
VERDICT_SAMPLES = 100_000
MOST_DRAWN = 400_000_000  # units, resamples times their number: seconds
DRAWN_AT_ONCE = 1 << 19  # numbers
NORMAL = NormalDist()
FARTHEST_OUT = 10.0  # standard deviations, beyond which no p is told from the next: it is 1e-23 there

Number = TypeVar("Number", float, np.ndarray)


@dataclass(frozen=True)
class Bootstrap:
    """Sums over units drawn with replacement, and how much these units say."""

    sums_BK: np.ndarray  # float64 (resamples, columns)
    documents: int | None  # that were there to be drawn; None: sentences were drawn
    effective: float  # number of units
    degrees: float  # of freedom that a spread over these units has, for `tests`

    def interval(self, figure_B: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Both ends of the two-sided interval of a figure, from its values in all resamples; None: too few units."""
        if self.effective < FEWEST_UNITS:
            return None
        outside = 100 * tail(self.effective, confidence)
        low, high = np.percentile(figure_B, [outside, 100 - outside])
        return float(low), float(high)

    def tests(self, figures_FB: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Of F figures both ends of the 95% interval, and how surely each is not 0: a two-sided p; `(F,)` each.

        p is below 0.05 exactly where the interval leaves out 0. Farther out resamples soon have nothing more to say:
        of a thousand the smallest share is 1 in 1,000, and no p made of shares survives a correction for a hundred
        tests. So how far out 0 lies is measured in standard errors of the resamples, from the interval's end on (Efron
        and Tibshirani 1993, chapter 6), and p is what Student's distribution leaves beyond, with `degrees` of freedom.
        None: too few units.
        """
        if self.effective < FEWEST_UNITS:
            return None
        free = self.effective - 1
        outside = 100 * tail(self.effective, CONFIDENCE)
        low_F, high_F = np.percentile(figures_FB, [outside, 100 - outside], axis=1)
        error_F = figures_FB.std(axis=1) * (self.effective / free) ** 0.5
        beyond_F = np.maximum(low_F, -high_F)  # from 0 to the interval; below 0 where that holds it
        z = NORMAL.inv_cdf((1 + CONFIDENCE) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            times_F = 1 + beyond_F / error_F / student(z, free)  # as far as an interval that ends at 0
        times_F = np.where(error_F > 0, times_F, np.where(beyond_F > 0, np.inf, 0)).clip(min=0)
        z_F = _as_normal(student(z, self.degrees) * times_F, self.degrees)
        return low_F, high_F, np.array([math.erfc(z / 2**0.5) for z in z_F])


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
    at_once = max(1, DRAWN_AT_ONCE // (units * columns))
    for start in range(0, resamples, at_once):
        sample_B = np.arange(min(at_once, resamples - start))[:, None]
        drawn_BU = generator.integers(0, units, (len(sample_B), units)) + units * sample_B
        times_BU = np.bincount(drawn_BU.ravel(), minlength=drawn_BU.size).reshape(drawn_BU.shape)
        # Sums instead of a matrix product: BLAS may add in another order when it has other threads.
        sums_BK[start : start + at_once] = (columns_KS * times_BU[:, None]).sum(axis=2)
    documents = None if document_S is None else units
    return Bootstrap(sums_BK, documents, effective_number(tokens_S), degrees_of_freedom(tokens_S))


def for_verdicts(resamples: int, tokens_S: np.ndarray, document_S: np.ndarray | None) -> int:
    """`resamples`, or as many more as a verdict takes that another seed of the resampling does not turn round.

    What `tests` says hangs on the last few percent of the resamples: of 1,000 draws, p = 0.058 came out from 0.043 to
    0.069, by luck. Of `VERDICT_SAMPLES` it is from 0.056 to 0.060. Very many units leave time for fewer.
    """
    units = len(tokens_S) if document_S is None else int(document_S.max()) + 1
    return max(resamples, min(VERDICT_SAMPLES, MOST_DRAWN // units))


def effective_number(tokens_U: np.ndarray) -> float:
    """How many units of equal length say as much as these: (sum w)^2 / sum w^2, w the tokens of each."""
    return float(tokens_U.sum()) ** 2 / float((tokens_U.astype(np.float64) ** 2).sum())


def degrees_of_freedom(tokens_U: np.ndarray) -> float:
    """Of a spread measured over these units: (sum v)^2 / sum v^2 - 1, v the variance of each (Satterthwaite 1946).

    The variance of what a document says about two models grows with its tokens to the power 1.45 in the default corpus:
    part of it cancels out among sentences, part is the document's. 1.5 is taken.
    """
    spread_U = tokens_U.astype(np.float64) * np.sqrt(tokens_U)
    return max(float(spread_U.sum()) ** 2 / float((spread_U**2).sum()) - 1, FEWEST_DEGREES)


def tail(effective: float, confidence: float) -> float:
    """The share of resamples beyond each end of an interval: the fewer units, the less than (1 - confidence) / 2."""
    if confidence >= 1:
        return 0.0
    free = effective - 1
    return NORMAL.cdf(-student(NORMAL.inv_cdf((1 + confidence) / 2), free) * (effective / free) ** 0.5)


def student(z: Number, free: float) -> Number:
    """The quantile of Student's distribution with so many degrees of freedom where the normal one has z.

    Abramowitz and Stegun 1964, 26.7.5. With 4 degrees it is 0.03% too small at a p of 0.05, 1.3% at 0.001 and 4% at
    0.0001, with 9 degrees 0.1% at the last.
    """
    y = z * z
    terms = (
        (y + 1) / 4,
        ((5 * y + 16) * y + 3) / 96,
        (((3 * y + 19) * y + 17) * y - 15) / 384,
        ((((79 * y + 776) * y + 1482) * y - 1920) * y - 945) / 92160,
    )
    return z * (1 + sum(term / free**power for power, term in enumerate(terms, start=1)))  # pyrefly: ignore[bad-return]


def _as_normal(t_F: np.ndarray, free: float) -> np.ndarray:
    """`student` backwards, for values from 0 on: what the normal distribution has where Student's has t."""
    low_F, high_F = np.zeros(len(t_F)), np.full(len(t_F), FARTHEST_OUT)
    for _ in range(60):  # halves: more would change nothing
        middle_F = (low_F + high_F) / 2
        is_below_F = student(middle_F, free) < t_F
        low_F, high_F = np.where(is_below_F, middle_F, low_F), np.where(is_below_F, high_F, middle_F)
    return low_F


def drawn_in_words(documents: int | None, effective: float) -> str:
    """Such as `175 documents (effective number 45.8)`."""
    what = "sentences, as there are no documents" if documents is None else f"{documents:,} documents"
    return f"{what} (effective number {effective:,.1f})"


def too_few(documents: int | None, effective: float) -> str:
    """Why there is no interval."""
    return (
        f"no interval, as {drawn_in_words(documents, effective)} say too little: at least {FEWEST_UNITS:g} are needed"
    )
