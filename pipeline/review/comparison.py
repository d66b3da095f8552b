"""Two models in MLflow, or two recipes, compared on the same test sentences: the current ones in data/tokens.

All are loaded from MLflow, as data/models may hold other models by now. Each reads the sentences with its own
vocabulary, and pays for words that it does not know as evaluation/paired.py says. Sentences that one of them was
trained on are left out.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE
from pipeline.evaluation.paired import PairedResult, nats_over_types, paired_bootstrap
from pipeline.evaluation.recipes import paired_recipes
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.inference.word_types import check_reads_corpus, differing_rule
from pipeline.model.folder import TextRules
from pipeline.params import Params
from pipeline.provenance.dvc import current_tokens
from pipeline.review.listing import SHORT_ID
from pipeline.review.names import model_of_run
from pipeline.review.unseen import compared_unseen
from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import progress_bar
from pipeline.text.counting import unknown_types
from pipeline.text.tokens import read_tokens
from pipeline.tracking.runs import SEED_GROUP
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class ModelComparison:
    """The outcome, and what a reader of it should know."""

    result: PairedResult  # over the test sentences that neither was trained on
    unknown_types_a: int  # word types of the common set that model A does not know
    unknown_types_b: int
    left_out: int | None  # test sentences that one was trained on; None: that cannot be told, and none is left out
    remarks: tuple[str, ...]  # sentences; usually none

    def as_json(self) -> dict[str, Any]:
        """The figures for `--json`."""
        figures = dataclasses.asdict(self)
        return figures.pop("result") | {"better": self.result.better, "compares": self.result.compares} | figures


def compare_models(
    store: Store,
    a: "Run",
    b: "Run",
    params: Params,
    old_tokens: Path | None = None,
    confidence: float = CONFIDENCE,
) -> ModelComparison:
    """Is the model of run `b` better than that of run `a`?

    Args:
        store: where both are.
        a: a run.
        b: another.
        params: the current ones.
        old_tokens: those of an earlier run, whose test split is taken in place of the current one.
        confidence: of the interval that decides.

    Raises:
        InputError: a run has no model, the two read different tokens, or there are no test sentences of `params`.
    """
    first, second = (Predictor(model_of_run(store, run)) for run in (a, b))
    _check_text(first, second, params)
    tokens = old_tokens or current_tokens()
    with progress_bar("word types", None, "sentences") as bar:
        unknown_a, unknown_b = unknown_types(tokens, [first.vocabulary, second.vocabulary], bar)
    nats_a, counts = _score(first, tokens, unknown_a, f"score {a.info.run_id[:SHORT_ID]}")
    nats_b, _ = _score(second, tokens, unknown_b, f"score {b.info.run_id[:SHORT_ID]}")
    found = compared_unseen(paired_bootstrap, (nats_a, nats_b), counts, store, (a, b), tokens, params, confidence)
    return ModelComparison(found[0], unknown_a, unknown_b, *found[1:])


def compare_recipes(store: Store, a: "Sequence[Run]", b: "Sequence[Run]", params: Params) -> ModelComparison:
    """Is the recipe of the runs `b` better than that of the runs `a`, over seeds and documents?

    Args:
        store: where all are.
        a: the runs of a recipe's seeds, at least two, as `runs_of_recipe` finds them.
        b: those of another.
        params: the current ones.

    Raises:
        InputError: as in `compare_models`.
    """
    tokens = current_tokens()
    first, second = ([Predictor(model_of_run(store, run)) for run in runs] for runs in (a, b))
    _check_text(first[0], second[0], params)
    with progress_bar("word types", None, "sentences") as bar:
        # All seeds of a recipe read the same text, by the same vocabulary.
        unknown_a, unknown_b = unknown_types(tokens, [first[0].vocabulary, second[0].vocabulary], bar)
    scored = [
        [
            _score(model, tokens, unknown, f"score {run.info.run_id[:SHORT_ID]}")
            for model, run in zip(models, runs, strict=True)
        ]
        for models, runs, unknown in ((first, a, unknown_a), (second, b, unknown_b))
    ]
    nats_a, nats_b = (np.stack([nats for nats, _ in of_recipe]) for of_recipe in scored)
    counts, runs = scored[0][0][1], (a[0], b[0])  # all seeds of a recipe were trained on the same sentences, too
    found = compared_unseen(paired_recipes, (nats_a, nats_b), counts, store, runs, tokens, params)
    return ModelComparison(found[0], unknown_a, unknown_b, *found[1:])


def runs_of_recipe(store: Store, run: "Run") -> "list[Run]":
    """The runs of all seeds of a run's recipe that have a model, the newest of each seed, by seed; or the run alone."""
    group = run.data.tags.get(SEED_GROUP)
    others = store.runs(query=f"tags.{SEED_GROUP} = '{group}' and attributes.status = 'FINISHED'") if group else []
    found = {other.data.params["train.seed"]: other for other in reversed(others) if "model_digest" in other.data.tags}
    return [store.run(found[seed].info.run_id) for seed in sorted(found, key=int)] or [run]


def _score(predictor: Predictor, tokens: Path, unknown: int, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Nats over the common word types, and tokens, of each test sentence."""
    # A null token, which the corpus itself marks as unknown, is in no vocabulary either.
    split = predictor.encode(words for rows in read_tokens(tokens, "test") for words in rows.to_pylist())
    if not len(split):
        raise InputError(f"{tokens} has no test sentence; raise tokenize.splits.test and run `dvc repro`")
    scores = score_split(predictor, split, task).sentences
    return nats_over_types(scores.nats, scores.unknown, unknown), scores.tokens


def _check_text(first: Predictor, second: Predictor, params: Params) -> None:
    if differing := differing_rule(first.text, second.text):
        name, of_first, of_second = differing
        raise InputError(
            f"these models cannot be compared, as they read different tokens: tokenize.{name} is {of_first} for the "
            f"first, {of_second} for the second; compare models that agree in it"
        )
    check_reads_corpus(first.text, TextRules.of(params.tokenize))
