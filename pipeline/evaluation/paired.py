"""Which of two models is better, and whether that can be told: a paired bootstrap over what both have scored.

Two perplexities with overlapping intervals may still differ for sure, since a document that is hard for one model is
hard for the other: what counts is how the difference varies. So documents are drawn with replacement, the same ones for
both models, and the difference is measured anew each time (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). One model is better where the interval of the difference lies on one side of 0, so that
interval and verdict always agree. It is these two models that are compared: what another seed of the same recipe would
give is not in the interval; recipes.py adds it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE, FEWEST_UNITS, bootstrap, drawn_in_words, too_few
from pipeline.runtime.errors import InputError


@dataclass(frozen=True)
class PairedResult:
    """How model B compares with model A on the same sentences; each figure is over all their tokens.

    Where A and B are recipes, each figure is over all their seeds too: nats are their mean, perplexities e to that.
    """

    sentences: int  # that were compared
    tokens: int  # in them, SENTENCE_END counted
    documents: int | None  # that they are in, which were drawn; None: sentences were drawn
    effective_number: float  # of what was drawn; see bootstrap.py
    perplexity_a: float  # of A, e to its nats a token
    perplexity_b: float
    difference: float  # nats a token of B less those of A; below 0: B is better
    difference_low: float | None  # lower end of its interval; None where too little was there to be drawn
    difference_high: float | None
    ratio: float  # perplexity of B over that of A; below 1: B is better
    ratio_low: float | None
    ratio_high: float | None
    confidence: float  # of the two-sided intervals
    resamples: int
    standard_error: float | None = None  # of the difference; None where too little was there to be drawn
    degrees: float = math.nan  # of freedom that it has; see bootstrap.py
    seeds_a: int | None = None  # models of recipe A; None: it is models that are compared
    seeds_b: int | None = None

    @property
    def compares(self) -> Literal["models", "recipes"]:
        """What `better` is said of."""
        return "models" if self.seeds_a is None else "recipes"

    @property
    def better(self) -> Literal["A", "B"] | None:
        """The model, or recipe, on whose side the whole interval lies; None where it holds 0 or there is none."""
        if self.difference_high is not None and self.difference_high < 0:
            return "B"
        return "A" if self.difference_low is not None and self.difference_low > 0 else None

    @property
    def ratio_interval(self) -> str:
        """Such as `95% interval 0.9812 to 0.9957 over 175 documents (effective number 45.8)`, or why there is none."""
        drawn = drawn_in_words(self.documents, self.effective_number)
        seeds = f"{self.seeds_a} and {self.seeds_b} seeds"
        if self.ratio_low is None or self.ratio_high is None:
            if self.compares == "recipes" and self.effective_number >= FEWEST_UNITS:
                return f"no interval, as {seeds} say too little"
            return too_few(self.documents, self.effective_number)
        if self.compares == "recipes":
            drawn = f"{seeds} and {drawn}"
        return f"{100 * self.confidence:g}% interval {self.ratio_low:.4f} to {self.ratio_high:.4f} over {drawn}"


def paired_bootstrap(
    nats_a: np.ndarray,
    nats_b: np.ndarray,
    tokens: np.ndarray,
    document: np.ndarray | None,
    resamples: int,
    seed: int,
    confidence: float = CONFIDENCE,
) -> PairedResult:
    """Compare two models by what they spent on the same sentences, of which there is one at least.

    Args:
        nats_a: (sentences,) -ln P(sentence) under A.
        nats_b: (sentences,) likewise under B.
        tokens: (sentences,) predicted tokens of each, SENTENCE_END counted.
        document: (sentences,) the index of the document of each; None: the corpus has none, so sentences are drawn.
        resamples: of the documents.
        seed: of the resampling; equal arguments give equal results.
        confidence: of the two-sided interval, and so of the verdict.

    Raises:
        InputError: a perplexity is not a finite number.
    """
    total = int(tokens.sum())
    perplexity_a, perplexity_b = _perplexity(nats_a, total, "first"), _perplexity(nats_b, total, "second")
    spent = nats_b - nats_a
    drawn = bootstrap(np.stack([spent, tokens]), tokens, document, resamples, seed)
    spent_B, tokens_B = drawn.sums_BK.T
    difference_B = spent_B / tokens_B
    low, high = drawn.interval(difference_B, confidence) or (None, None)
    difference = float(spent.sum() / total)
    return PairedResult(
        sentences=len(tokens),
        tokens=total,
        documents=drawn.documents,
        effective_number=drawn.effective,
        perplexity_a=perplexity_a,
        perplexity_b=perplexity_b,
        difference=difference,
        difference_low=low,
        difference_high=high,
        ratio=_exp(difference),
        ratio_low=None if low is None else _exp(low),
        ratio_high=None if high is None else _exp(high),
        confidence=confidence,
        resamples=resamples,
        # The plain one is too small by the same factor as plain percentiles.
        standard_error=None if low is None else _standard_error(difference_B, drawn.effective),
        degrees=drawn.degrees,
    )


def nats_over_types(nats: np.ndarray, unknown: np.ndarray, unknown_types: int) -> np.ndarray:
    """What a model spends on sentences once it has to name every word of a set, those it does not know included.

    A model gives all words that it does not know one probability, that of UNKNOWN_TOKEN; the fewer it knows, the easier
    that token is to predict. Shared equally among the K word types of the set that it does not know, that probability
    names a word, at ln K nats more; and models of different vocabularies are distributions over the same words.

    Args:
        nats: (sentences,) -ln P(sentence) with UNKNOWN_TOKEN as one word.
        unknown: (sentences,) predicted tokens that are UNKNOWN_TOKEN.
        unknown_types: K. Where it is 0 no token is unknown, and what the model keeps for UNKNOWN_TOKEN is lost to it.
    """
    return nats + unknown * math.log(max(unknown_types, 1))


def _standard_error(difference_B: np.ndarray, effective: float) -> float:
    return float(difference_B.std()) * math.sqrt(effective / (effective - 1))


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 709 else math.inf


def _perplexity(nats: np.ndarray, tokens: int, which: str) -> float:
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(nats.sum() / tokens))
    if not math.isfinite(perplexity):
        raise InputError(
            f"the {which} model's perplexity is not a finite number: its training diverged and it cannot be compared"
        )
    return perplexity
