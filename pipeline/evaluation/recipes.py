"""Whether one recipe beats another, where a single model of each is at hand: the luck of training counts too.

Two models of one recipe differ by their seeds alone, and a paired test, which draws text, finds one of them better as
often as not. So the variance over seeds is added to that over documents. The difference d of the mean nats a token of
two single models stands for that of their recipes with the variance

    V = SE^2 + sd_A^2 + sd_B^2

SE the standard error over documents (paired.py), sd_A and sd_B the standard deviations of a model's mean nats a token
over the seeds of its recipe; where all three are those of one recipe, sd_A^2 + sd_B^2 = 2 sd^2. The interval of the
recipes' difference is d -+ t sqrt(V), t the quantile of Student's distribution whose degrees of freedom are
V^2 / (SE^4 / n + sd_A^4 / (a - 1) + sd_B^4 / (b - 1)), n those of the documents (bootstrap.py), a and b the seeds
(Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components"; Welch 1947). A standard
deviation that was not measured but stated adds nothing to the bracket.

Where all models of both recipes are at hand, d is the difference of the means over seeds, sd_A^2 / a and sd_B^2 / b
stand in place of sd_A^2 and sd_B^2, and SE is that of the means. To draw the seeds as well as the documents would be
too narrow: a drawn seeds vary by (a - 1) / a of what they should, and percentiles of so few have too short tails. In
simulation 7% of equal recipes of four seeds would differ at 95%, 10% of three; this way 3 to 4%, whichever of seeds and
documents varies more (tests/evaluation/test_recipes.py, `python -m benchmarks.seeds`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE, FARTHEST_OUT, FEWEST_DEGREES, NORMAL, student
from pipeline.evaluation.paired import PairedResult, paired_bootstrap

# Keys of metrics.json where a recipe was trained with several seeds.
SEED_COUNT, SEED_NATS_SD = "seeds", "seed_nats_sd"
FEWEST_FOR_SD = 4  # below, their standard deviation may be anything by chance
FEWEST_OF_RECIPE = 3  # with two of the default GRU against two, 16 of the 72 intervals of 210 pairs were false verdicts

# What `retrain.seed_sd: auto` stands for, from so many training tokens on: the largest of the standard deviations that
# five seeds of each default cell have on as much of the default corpus; docs/retraining.md has them all.
USUAL_SDS = {0: 0.037, 24_000: 0.026, 80_000: 0.013, 1_000_000: 0.009}


def usual_sd(training_tokens: int) -> float:
    """By how many nats a token seeds of a recipe differ that learned from so many tokens, where it is not measured."""
    return USUAL_SDS[max(size for size in USUAL_SDS if size <= training_tokens)]


@dataclass(frozen=True)
class SeedSpread:
    """The standard deviation of the mean nats a token over the seeds of a recipe."""

    sd: float
    seeds: int | None = None  # that it was measured over; None: stated


NO_SPREAD = SeedSpread(0.0)  # of a model that has no seed, and where a model and not its recipe is compared


@dataclass(frozen=True)
class RecipeResult:
    """The difference of two recipes, nats a token of B less those of A, and its interval."""

    difference: float
    low: float
    high: float
    confidence: float  # of the two-sided interval
    seed_sd_a: float
    seed_sd_b: float
    degrees: float = math.inf  # of freedom of the interval
    seeds_a: int | None = None  # that its standard deviation was measured over; None: it was stated
    seeds_b: int | None = None

    @property
    def better(self) -> Literal["A", "B"] | None:
        """The recipe on whose side the whole interval lies; None where it holds 0."""
        if self.high < 0:
            return "B"
        return "A" if self.low > 0 else None

    @property
    def ratio_interval(self) -> str:
        """That of the ratio of perplexities, such as `95% interval 0.9512 to 0.9957`."""
        low, high = (math.exp(min(end, 700.0)) for end in (self.low, self.high))
        return f"{as_percentage(self.confidence)} interval {low:.4f} to {high:.4f}"


def seed_spread(figures: Mapping[str, float], default: float) -> SeedSpread:
    """What `figures` (metrics.json) say of a recipe's seeds; where that is too little, the default, if it is larger."""
    seeds, sd = int(figures.get(SEED_COUNT, 1)), float(figures.get(SEED_NATS_SD, 0.0))
    return SeedSpread(sd, seeds) if seeds >= FEWEST_FOR_SD else SeedSpread(max(sd, default))


def recipe_test(result: PairedResult, a: SeedSpread, b: SeedSpread, confidence: float) -> RecipeResult | None:
    """Compare two recipes by a model of each, see above; None where there are too few documents.

    Args:
        result: of the two models.
        a: of the seeds of A.
        b: of those of B.
        confidence: of the two-sided interval, from 0 to 1.
    """
    if result.standard_error is None:
        return None
    parts = [(result.standard_error, result.degrees)]
    parts += [(spread.sd, math.inf if spread.seeds is None else spread.seeds - 1.0) for spread in (a, b)]
    variance = sum(sd**2 for sd, _ in parts)
    bracket = sum(sd**4 / free for sd, free in parts)
    degrees = variance**2 / bracket if bracket > 0 else math.inf
    margin = _student(confidence, degrees) * math.sqrt(variance) if variance > 0 else 0.0
    d = result.difference
    return RecipeResult(d, d - margin, d + margin, confidence, a.sd, b.sd, degrees, a.seeds, b.seeds)


def paired_recipes(
    nats_a: np.ndarray,
    nats_b: np.ndarray,
    tokens: np.ndarray,
    document: np.ndarray | None,
    resamples: int,
    seed: int,
    confidence: float = CONFIDENCE,
) -> PairedResult:
    """Compare two recipes by what the models of all their seeds spent on the same sentences, see above.

    As `paired_bootstrap`, but `nats_a` and `nats_b` are (seeds, sentences), of two seeds at least each. Where seeds are
    too few for an interval, there is none.

    Raises:
        InputError: a perplexity is not a finite number.
    """
    result = paired_bootstrap(nats_a.mean(axis=0), nats_b.mean(axis=0), tokens, document, resamples, seed, confidence)
    a, b = (_of_the_mean(nats_KS, tokens) for nats_KS in (nats_a, nats_b))
    found = recipe_test(result, a, b, confidence)
    low, high = (found.low, found.high) if found and _tells(found, len(nats_a), len(nats_b)) else (None, None)
    return replace(
        result,
        difference_low=low,
        difference_high=high,
        ratio_low=None if low is None else math.exp(min(low, 700.0)),
        ratio_high=None if high is None else math.exp(min(high, 700.0)),
        seeds_a=len(nats_a),
        seeds_b=len(nats_b),
    )


def recipe_interval(
    nats_KS: np.ndarray, tokens: np.ndarray, document: np.ndarray | None, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Both ends of the 95% interval of a recipe's mean nats a token, over seeds and documents; None: too few of them.

    The arguments are those of `paired_recipes`.
    """
    nothing = np.zeros(len(tokens))  # as if beside a model that spends nothing
    result = paired_bootstrap(nothing, nats_KS.mean(axis=0), tokens, document, resamples, seed)
    found = recipe_test(result, NO_SPREAD, _of_the_mean(nats_KS, tokens), CONFIDENCE)
    return (found.low, found.high) if found and _tells(found, len(nats_KS)) else None


def _tells(found: RecipeResult, *seeds: int) -> bool:
    """Whether there are seeds enough for an interval.

    Their number decides as well as the degrees of freedom: these come from what few seeds gave, and are many just where
    two seeds came close to each other by chance.
    """
    return min(seeds) >= FEWEST_OF_RECIPE and found.degrees >= FEWEST_DEGREES


def _of_the_mean(nats_KS: np.ndarray, tokens: np.ndarray) -> SeedSpread:
    """The spread of the mean over all seeds that their nats (seeds, sentences) tell of."""
    sd = float((nats_KS.sum(axis=1) / tokens.sum()).std(ddof=1))
    return SeedSpread(sd / math.sqrt(len(nats_KS)), len(nats_KS))


def _student(confidence: float, free: float) -> float:
    """Standard errors that the interval reaches to either side."""
    return student(FARTHEST_OUT if confidence >= 1 else NORMAL.inv_cdf((1 + confidence) / 2), free)


def as_percentage(confidence: float) -> str:
    """Such as 95%, 99.17% or 99.99901%: two digits of what is left to chance."""
    chance = 100 * (1 - confidence)
    decimals = max(0, 1 - math.floor(math.log10(chance))) if chance > 0 else 0
    return f"{round(100 * confidence, decimals):.12g}%"
