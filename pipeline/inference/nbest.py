"""N-best lists, which recognisers and translators write for another model to choose from.

The format is that of Moses, which Marian writes and reads too: a line for each hypothesis, the lines of an input side
by side, best first, with four fields or more between ` ||| `:

    ID ||| hypothesis ||| features, such as `AM= -310.2 LM= -41.0` ||| score

The hypotheses of an input are put in the order of score + weight * ln P(hypothesis), which becomes the score, and ln P
is added to the features.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from pipeline.inference.predictor import Predictor
from pipeline.inference.surprisal import surprisal_of_lines
from pipeline.runtime.errors import InputError

SEPARATOR = "|||"
FEATURE = "rnnlm="  # what ln P is called among the features
LOOKS_LIKE = f"ID {SEPARATOR} hypothesis {SEPARATOR} features {SEPARATOR} score"


class Hypothesis(NamedTuple):
    """One line of a list."""

    id: str
    text: str
    features: str
    score: float
    others: tuple[str, ...]  # fields behind the score, such as alignments
    log_probability: float = math.nan  # ln P(text)

    def row(self) -> str:
        """As a line of a list."""
        fields = (self.id, self.text, self.features, f"{self.score:.6f}", *self.others)
        return f" {SEPARATOR} ".join(fields)


def rescored(
    predictor: Predictor, parts: Iterable[list[str]], weight: float, name: str, unknown_types: int | None = None
) -> Iterator[list[Hypothesis]]:
    """The hypotheses of each list in their new order; those of equal score keep theirs, and with weight 0 all do.

    Args:
        predictor: the model.
        parts: lines of a list as they come, those of one input possibly in several parts.
        weight: of ln P beside the score.
        name: of the list, in messages.
        unknown_types: as of `surprisal_of_lines`.

    Raises:
        InputError: a line is not one of such a list, has `FEATURE` already, or comes apart from the others of its ID.
    """
    open_list = []
    for read in hypotheses_of(parts, name):
        lists = [list(own) for _, own in groupby([*open_list, *read], lambda hypothesis: hypothesis.id)]
        open_list = lists.pop()  # its next line may not have come yet
        if lists:
            yield _scored_anew(predictor, lists, weight, unknown_types)
    if open_list:
        yield _scored_anew(predictor, [open_list], weight, unknown_types)


def hypotheses_of(parts: Iterable[list[str]], name: str) -> Iterator[list[Hypothesis]]:
    """The lines of a list as they stand there; arguments and errors as of `rescored`."""
    number, seen, last = 0, set(), None
    for lines in parts:
        read = []
        for line in lines:
            number += 1
            hypothesis = _hypothesis(line, number, name)
            if hypothesis.id != last and hypothesis.id in seen:
                raise InputError(
                    f"{name}, line {number}: ID {hypothesis.id!r} comes back after {last!r}; put the lines of an ID "
                    "side by side"
                )
            seen.add(last := hypothesis.id)
            read.append(hypothesis)
        yield read


def _hypothesis(line: str, number: int, name: str) -> Hypothesis:
    fields = [field.strip() for field in line.split(SEPARATOR)]
    if len(fields) < 4:
        raise InputError(f"{name}, line {number}: {len(fields)} fields; a line of an n-best list is `{LOOKS_LIKE}`")
    try:
        score = float(fields[3])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{name}, line {number}: the score must be a number, got {fields[3]!r}; `{LOOKS_LIKE}`")
    if any(feature.startswith(FEATURE) for feature in fields[2].split()):
        raise InputError(
            f"{name}, line {number}: the features have `{FEATURE}` already; rescore the list as it was before, or give "
            "this feature another name"
        )
    return Hypothesis(fields[0], fields[1], fields[2], score, tuple(fields[4:]))


def _scored_anew(
    predictor: Predictor, lists: list[list[Hypothesis]], weight: float, unknown_types: int | None
) -> list[Hypothesis]:
    texts = [hypothesis.text for own in lists for hypothesis in own]
    (scored,) = surprisal_of_lines(predictor.one_by_one(), [texts], unknown_types)
    log_probabilities = iter([line.log_probability for line in scored])
    found = []
    for own in lists:
        new = [
            hypothesis._replace(
                features=f"{hypothesis.features} {FEATURE} {log_probability:.6f}".lstrip(),
                score=hypothesis.score + weight * log_probability,
                log_probability=log_probability,
            )
            for hypothesis, log_probability in zip(own, log_probabilities, strict=False)
        ]
        found += sorted(new, key=lambda hypothesis: -hypothesis.score) if weight else new
    return found
