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
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation.bootstrap import NORMAL, student
from pipeline.evaluation.paired import PairedResult

# Keys of metrics.json where a recipe was trained with several seeds.
SEED_COUNT, SEED_NATS_SD = "seeds", "seed_nats_sd"
FEWEST_FOR_SD = 4  # below, their standard deviation may be anything by chance


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

    @property
    def better(self) -> Literal["A", "B"] | None:
        """The recipe on whose side the whole interval lies; None where it holds 0."""
        if self.high < 0:
            return "B"
        return "A" if self.low > 0 else None

    @property
    def ratio_interval(self) -> str:
        """That of the ratio of perplexities, such as `95% interval 0.9512 to 0.9957`."""
        with_e = (math.exp(min(end, 700.0)) for end in (self.low, self.high))
        return f"{as_percentage(self.confidence)} interval {' to '.join(f'{end:.4f}' for end in with_e)}"


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
    margin = 0.0
    if variance > 0:
        margin = _student(confidence, variance**2 / bracket if bracket > 0 else math.inf) * math.sqrt(variance)
    d = result.difference
    return RecipeResult(d, d - margin, d + margin, confidence, a.sd, b.sd)


def _student(confidence: float, free: float) -> float:
    """Standard errors that the interval reaches to either side."""
    return math.inf if confidence >= 1 else student(NORMAL.inv_cdf((1 + confidence) / 2), free)


def as_percentage(confidence: float) -> str:
    """Such as 95%, 99.17% or 99.99901%: two digits of what is left to chance."""
    chance = 100 * (1 - confidence)
    decimals = max(0, 1 - math.floor(math.log10(chance))) if chance > 0 else 0
    return f"{round(100 * confidence, decimals):.12g}%"
