"""Every model against every other, and what of it holds once it counts how many pairs were looked at.

Each pair is a paired test as in paired.py, all on one draw of documents. Of a hundred pairs of equal models five would
differ at 95% by luck, so the tests are corrected for their number by Holm's step-down rule (1979, "A Simple
Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6): the smallest of m p-values is
multiplied by m, the next by m - 1, and so on, none below the one before. Whatever the pairs have to do with each other,
at most 5% of such matrices then hold any difference that is luck. bootstrap.py says where p comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE, bootstrap, drawn_in_words, too_few
from pipeline.runtime.rows import rounded, write_rows

MOST_NAMED = 5  # models that a sentence lists where it can say "all"


@dataclass(frozen=True)
class Pair:
    """Two models on the same sentences; the first is the one of lower perplexity, or of equal."""

    model: str
    other: str
    ratio: float  # perplexity of `model` over that of `other`
    ratio_low: float  # 95% interval, of this pair alone
    ratio_high: float
    p: float  # of this pair alone, two-sided
    p_holm: float  # corrected for the number of pairs

    @property
    def better(self) -> bool:
        """Whether `model` is better, all pairs considered; else the two cannot be told apart."""
        return self.p_holm < 1 - CONFIDENCE and self.ratio_high < 1


@dataclass(frozen=True)
class Matrix:
    """All models, the lowest perplexity first, and every pair of them in that order."""

    perplexities: dict[str, float]
    pairs: Sequence[Pair]  # none where too little was there to be drawn
    documents: int | None  # that were drawn; None: sentences were
    effective_number: float  # of these; see bootstrap.py

    def about(self) -> str:
        """What was compared, and what the correction is worth; or why nothing can be told."""
        if not self.pairs:
            return (
                "Whether any of these models is better than another cannot be told: "
                f"{too_few(self.documents, self.effective_number)}."
            )
        drawn = drawn_in_words(self.documents, self.effective_number)
        return (
            f"Each model against each other by a paired test over {drawn}, corrected for their number, "
            f"{len(self.pairs)} (Holm 1979): at most {1 - CONFIDENCE:.0%} of such tables hold any difference that is "
            "luck. The tests compare these models, not their recipes: another seed gives another model."
        )

    def table(self) -> list[list[str]]:
        """A row and a column for each model, the header first: how much lower or higher the row's perplexity is.

        Columns have the numbers of rows, so that long names make none wide. What can be told apart is bold.
        """
        shown = {}
        for pair in self.pairs:
            mark = "**" if pair.better else ""
            shown[pair.model, pair.other] = f"{mark}{_percent(pair.ratio)}{mark}"
            shown[pair.other, pair.model] = f"{mark}{_percent(1 / pair.ratio)}{mark}"
        names = list(self.perplexities)
        header = ["perplexity against that of", *(str(number) for number in range(1, len(names) + 1))]
        return [
            header,
            *([f"{number} {name}", *(shown.get((name, other), "") for other in names)]
              for number, name in enumerate(names, start=1)),
        ]  # fmt: skip

    def sentences(self) -> list[str]:
        """What each model beats, and which it cannot be told apart from; every pair is in one of them."""
        result = []
        for model, perplexity in self.perplexities.items():
            pairs = [pair for pair in self.pairs if pair.model == model]
            beaten, tied = ([pair.other for pair in pairs if pair.better == better] for better in (True, False))
            if pairs:
                result.append(f"{model} (perplexity {perplexity:.1f}) {_verdict(beaten, tied)}.")
        return result

    def beats(self, model: str, other: str) -> bool:
        """Whether `model` is better than `other`, all pairs considered."""
        return any(pair.better for pair in self.pairs if (pair.model, pair.other) == (model, other))

    def write(self, path: Path) -> None:
        """Write every pair as CSV; the columns are the fields of `Pair` and `better`."""
        columns = [field.name for field in fields(Pair)]
        write_rows(
            path,
            [*columns, "better"],
            ([*map(rounded, astuple(pair)), "yes" if pair.better else "cannot be told"] for pair in self.pairs),
        )


def compare_all(
    nats: Mapping[str, np.ndarray], tokens_S: np.ndarray, document_S: np.ndarray | None, resamples: int, seed: int
) -> Matrix:
    """Compare models by what they spent on the same sentences, of which there is one at least.

    Args:
        nats: of each model, by name: (sentences,) -ln P(sentence), all of finite mean.
        tokens_S: predicted tokens of each sentence, SENTENCE_END counted.
        document_S: the index of the document of each; None: the corpus has none, so sentences are drawn.
        resamples: of the documents, the same for all pairs.
        seed: of the resampling; equal arguments give equal results.
    """
    mean = {name: float(nats_S.sum() / tokens_S.sum()) for name, nats_S in nats.items()}
    names = sorted(nats, key=lambda name: mean[name])
    drawn = bootstrap(np.stack([*(nats[name] for name in names), tokens_S]), tokens_S, document_S, resamples, seed)
    mean_MB = np.ascontiguousarray(drawn.sums_BK[:, :-1].T) / drawn.sums_BK[:, -1]
    found = list(combinations(range(len(names)), 2))
    tests = drawn.tests(np.stack([mean_MB[first] - mean_MB[second] for first, second in found]))
    pairs = []
    for (first, second), low, high, p, p_holm in zip(found, *tests, holm(tests[2]), strict=True) if tests else ():
        model, other = names[first], names[second]
        ratio, ratio_low, ratio_high = np.exp([mean[model] - mean[other], low, high]).tolist()
        pairs.append(Pair(model, other, ratio, ratio_low, ratio_high, float(p), float(p_holm)))
    return Matrix({name: float(np.exp(mean[name])) for name in names}, pairs, drawn.documents, drawn.effective)


def holm(p_P: np.ndarray) -> np.ndarray:
    """p-values (pairs,) corrected for their number; see the head of this module."""
    order = np.argsort(p_P, kind="stable")
    factors = np.arange(len(p_P), 0, -1)
    corrected = np.empty(len(p_P))
    corrected[order] = np.maximum.accumulate(p_P[order] * factors).clip(max=1)
    return corrected


def _verdict(beaten: Sequence[str], tied: Sequence[str]) -> str:
    """The shorter of two long lists names its models, the other is what else stands below in the table."""
    if not tied:
        return f"beats {_listed_or(beaten, f'all {len(beaten)} below it')}"
    if not beaten:
        return f"cannot be told apart from {_listed_or(tied, f'the {len(tied)} below it')}"
    if len(beaten) > max(MOST_NAMED, len(tied)):
        return f"beats all below it but {listed(tied)}, from which it cannot be told apart"
    return (
        f"beats {listed(beaten)}; it cannot be told apart from {_listed_or(tied, f'the {len(tied)} others below it')}"
    )


def _listed_or(names: Sequence[str], short: str) -> str:
    return listed(names) if len(names) <= MOST_NAMED else short


def listed(names: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}%" if ratio < 10 else f"{ratio:,.0f}x"
