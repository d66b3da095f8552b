"""A page of two models in MLflow: the paired test, their curves, and sentences word by word as each saw them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.figures import SURPRISE
from pipeline.evaluation.inside import word_scores
from pipeline.evaluation.page import COLOURED, DRAWN, REASONS, choose, sentence_view, styled
from pipeline.evaluation.page_frame import page
from pipeline.evaluation.words import Words, drawn, looked_at, showable
from pipeline.inference.predictor import Predictor
from pipeline.provenance.dvc import current_tokens
from pipeline.review.comparison import ModelComparison
from pipeline.review.names import model_of_run
from pipeline.review.tables import comparison_sentences
from pipeline.runtime.files import write_text
from pipeline.text.tokens import read_tokens
from pipeline.tracking.pages import about_run
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


def write_comparison_page(path: Path, store: Store, a: "Run", b: "Run", compared: ModelComparison) -> None:
    """Write the page of two runs and of what comparing them gave; their models are loaded from MLflow.

    Raises:
        InputError: a run has no model, or there are no test sentences.
    """
    runs = {f"A: {a.info.run_name}": a, f"B: {b.info.run_name}": b}
    models = {name: Predictor(model_of_run(store, run)) for name, run in runs.items()}
    unknown = dict(zip(runs, (compared.unknown_types_a, compared.unknown_types_b), strict=True))
    texts = [
        [word or "<unk>" for word in row] for rows in read_tokens(current_tokens(), "test") for row in rows.to_pylist()
    ]
    words = {name: _words(model, texts, unknown[name]) for name, model in models.items()}
    lengths = np.array([len(text) + 1 for text in texts])
    evenly = drawn(showable(lengths), REASONS[DRAWN]).tolist()
    chosen = choose(words, evenly, [(next(iter(runs)), list(runs)[1])])
    verdict, *figures = comparison_sentences(compared)
    about = f"{len(chosen)} sentences of the test split, each word {COLOURED} Here one costs what naming it would."
    runs_told = {f"{name[0]}, {term}": told for name, run in runs.items() for term, told in about_run(run).items()}
    data = {
        "intervals": compared.result.ratio_interval.capitalize() + ", of perplexity B / A.",
        "models": list(_models(runs, compared)),
        "curves": [point for name, run in runs.items() for point in _curve(store, run, name)],
        "surprise": SURPRISE["limits"],
        "sentences": sentence_view(
            words,
            chosen,
            {sentence: texts[sentence] for sentence, _ in chosen},
            {name: model.vocabulary for name, model in models.items()},
            models[next(iter(runs))].text.by_character,
            about,
        ),
        "foot": {
            "commands": [f"rnnlm compare {a.info.run_id} {b.info.run_id} --html {path.name}"],
            "hashes": runs_told,
        },
    }
    if not data["curves"]:
        del data["curves"]
    write_text(path, page("Two models compared", [verdict, *figures, *compared.remarks], data, SURPRISE))


def _words(model: Predictor, texts: Sequence[Sequence[str]], unknown_types: int) -> Words:
    """As `word_scores`, where an unknown word costs its share of the probability, as in the paired test."""
    split = model.encode(texts)
    found = word_scores(model.model, model.passes(split), split, looked_at(split.lengths), showable(split.lengths))
    is_unknown = found.target == model.vocabulary.unknown_id
    return replace(found, nats=found.nats + is_unknown * np.float32(np.log(max(unknown_types, 1))))


def _models(runs: "dict[str, Run]", compared: ModelComparison) -> Any:
    perplexities = (compared.result.perplexity_a, compared.result.perplexity_b)
    for run, style, perplexity in zip(runs.values(), styled(runs, list(runs)), perplexities, strict=True):
        metrics, parameters = run.data.metrics, run.data.params.get("model.parameters")
        yield style | {
            "perplexity": perplexity,
            "low": None,
            "high": None,
            "seeds": [],
            "parameters": None if parameters is None else int(parameters),
            "top1": metrics.get("test/accuracy_top1"),
            "top5": metrics.get("test/accuracy_top5"),
            "valid": metrics.get("valid/best_perplexity"),
        }


def _curve(store: Store, run: "Run", name: str) -> list[dict[str, Any]]:
    """Of a run's epochs; without what MLflow knows of the training text they have no place on the axis."""
    datasets = [one.dataset for one in run.inputs.dataset_inputs] if run.inputs else []
    sizes = [json.loads(one.profile or "{}").get("tokens") for one in datasets if one.name.endswith(", train")]
    if not sizes or sizes[0] is None:
        return []
    points = store.client.get_metric_history(run.info.run_id, "valid/perplexity")
    best = min(points, key=lambda point: (point.value, point.step), default=None)  # the first of equals, as in training
    rows = []
    for point in sorted(points, key=lambda point: point.step):
        figures = {"epoch": point.step, "tokens": point.step * sizes[0], "perplexity": point.value}
        rows.append({"model": name, **figures, "kept": point is best})
    return rows
