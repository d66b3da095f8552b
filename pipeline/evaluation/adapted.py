"""The figures of a cell's models where they are adapted to the text they read, as `evaluate.adaptation` asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.evaluation.adaptation import Reader
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.params import ENSEMBLE, parts_of
from pipeline.evaluation.scores import ADAPTED, SentenceScores
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import Context
from pipeline.text.encoded import EncodedSplit


@dataclass(frozen=True)
class Adapted:
    """One adaptation of a model, or of an ensemble."""

    figures: dict[str, float | int]  # as those of static models, and what was chosen
    scores: SentenceScores


@dataclass(frozen=True)
class Adaptations:
    """What models are to be adapted in, and on what; without a name nothing is done."""

    names: Sequence[str]
    valid: EncodedSplit
    test: EncodedSplit
    fivegram: KneserNey | None
    summary: Callable[[SentenceScores], dict[str, float | int]]

    @property
    def ensembles(self) -> bool:
        """Whether any of them is of all seeds."""
        return any(ENSEMBLE in parts_of(name) for name in self.names)

    def of(self, models: Sequence[LanguageModel], context: Context, task: str) -> dict[str, Adapted]:
        """Each adaptation of one model, or each ensemble of several; `task` names the progress bars."""
        names = [name for name in self.names if (ENSEMBLE in parts_of(name)) == (len(models) > 1)]
        if not names:
            return {}
        reader = Reader(models, context, self.fivegram, task)
        chosen = reader.choose(self.valid, names)
        parameters = sum(model.parameter_count() for model in models)
        return {
            name: Adapted(
                self.summary(sums.sentences) | chosen[name].figures() | {"parameters": parameters}, sums.sentences
            )
            for name, sums in reader.score(self.test, chosen).items()
        }


def with_seeds(
    of_seeds: Mapping[int, Mapping[str, Adapted]], over_seeds: Callable[[Mapping[int, SentenceScores]], dict]
) -> dict[str, Adapted]:
    """The first seed's adaptations, with what all seeds gave among their figures, as `over_seeds` says it."""
    first = next(iter(of_seeds.values()))
    return {
        name: replace(
            one, figures=one.figures | over_seeds({seed: found[name].scores for seed, found in of_seeds.items()})
        )
        for name, one in first.items()
    }


def metrics_of(adapted: Mapping[str, Adapted]) -> dict[str, object]:
    """What metrics.json has besides: nothing where nothing is adapted."""
    return {ADAPTED: {name: one.figures for name, one in adapted.items()}} if adapted else {}


def nats_of(adapted: Mapping[str, Adapted]) -> dict[str, np.ndarray]:
    """What `write_sentences` takes."""
    return {name: one.scores.nats for name, one in adapted.items()}
