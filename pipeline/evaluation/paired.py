"""Which of two models is better, and how sure that is: a paired bootstrap over the sentences that both have scored.

Two perplexities with overlapping intervals may still differ for sure, since a sentence that is hard for one model is
hard for the other: what counts is how the difference varies. So sentences are drawn with replacement, the same ones for
both models, and the difference is measured anew each time (Koehn 2004, "Statistical significance tests for machine
translation evaluation", whose share of resamples in which one system beats the other is the confidence here).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.evaluation.bootstrap import interval, resampled_sums
from pipeline.runtime.errors import InputError

SURE = 0.95


@dataclass(frozen=True)
class PairedResult:
    """How model B compares with model A on the same sentences; each figure is over all their tokens."""

    sentences: int  # that were compared
    tokens: int  # in them, SENTENCE_END counted
    perplexity_a: float  # of A, e to its nats a token
    perplexity_b: float
    difference: float  # nats a token of B less those of A; below 0: B is better
    difference_low: float  # lower end of its 95% percentile interval
    difference_high: float
    ratio: float  # perplexity of B over that of A; below 1: B is better
    ratio_low: float
    ratio_high: float
    confidence: float  # that B is better, the share of the resamples in which it is; a tie is not a win
    resamples: int

    @property
    def better(self) -> Literal["A", "B"] | None:
        """Which is better with a confidence of at least `SURE`; None where that cannot be said."""
        if self.confidence >= SURE:
            return "B"
        return "A" if self.difference > 0 and self.confidence <= 1 - SURE else None


def paired_bootstrap(
    nats_a: np.ndarray, nats_b: np.ndarray, tokens: np.ndarray, resamples: int, seed: int
) -> PairedResult:
    """Compare two models by what they spent on the same sentences, of which there is one at least.

    Args:
        nats_a: (sentences,) -ln P(sentence) under A.
        nats_b: (sentences,) likewise under B.
        tokens: (sentences,) predicted tokens of each, SENTENCE_END counted.
        resamples: of the sentences.
        seed: of the resampling; equal arguments give equal results.

    Raises:
        InputError: a perplexity is not a finite number.
    """
    total = int(tokens.sum())
    perplexity_a, perplexity_b = _perplexity(nats_a, total, "first"), _perplexity(nats_b, total, "second")
    spent = nats_b - nats_a
    spent_B, tokens_B = resampled_sums(np.stack([spent, tokens]), resamples, seed).T
    resampled = spent_B / tokens_B
    low, high = interval(resampled)
    difference = spent.sum() / total
    ratio, ratio_low, ratio_high = np.exp([difference, low, high])
    return PairedResult(
        sentences=len(tokens),
        tokens=total,
        perplexity_a=perplexity_a,
        perplexity_b=perplexity_b,
        difference=float(difference),
        difference_low=low,
        difference_high=high,
        ratio=float(ratio),
        ratio_low=float(ratio_low),
        ratio_high=float(ratio_high),
        confidence=float(np.mean(resampled < 0)),
        resamples=resamples,
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


def _perplexity(nats: np.ndarray, tokens: int, which: str) -> float:
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(nats.sum() / tokens))
    if not math.isfinite(perplexity):
        raise InputError(
            f"the {which} model's perplexity is not a finite number: its training diverged and it cannot be compared"
        )
    return perplexity
