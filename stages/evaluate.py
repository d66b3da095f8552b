"""evaluate NAME: trained models and the test split -> their figures; what the first writes, how its gradient flows."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pipeline.evaluation.adapted import Adaptations, metrics_of, nats_of, with_seeds
from pipeline.evaluation.baselines import ORDERS
from pipeline.evaluation.gradient_flow import LAGS, gradient_norms, write_gradient_norms
from pipeline.evaluation.inside import look_inside, word_scores, write_inside
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.params import INTERPOLATION, parts_of
from pipeline.evaluation.reading import ReadOnce
from pipeline.evaluation.scores import (
    SentenceScores,
    summarise,
    summarise_seeds,
    write_bands,
    write_metrics,
    write_seed_figures,
    write_sentences,
)
from pipeline.evaluation.words import INSIDE_FILE, WORDS_FILE, looked_at, showable, write_words
from pipeline.inference.generation import Decoding, readable
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.model.streams import pieces
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import ENCODED, EVALUATION, MODELS, SEEDS_FILE, SEEDS_FOLDER, VOCABULARY, seed_folders
from pipeline.runtime.stage import run_stage
from pipeline.text.encoded import EncodedSplit, load_documents, load_seen, load_split
from pipeline.text.unknown import with_unknown_words
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.runs import log_evaluation

OTHER_TEMPERATURES, OTHER_SAMPLES = (0.5, 0.8), 10  # of samples for the page


def evaluate() -> None:
    """Write data/evaluation/NAME/: what evaluation measures of a cell, its samples, and what the page shows of it."""
    if len(sys.argv) != 2:
        raise InputError("say which cell of params.yaml to evaluate: python -m stages.evaluate NAME")
    warn_if_not_exact()
    params = load_params()
    cell, options = params.cell(sys.argv[1]), params.evaluate
    model_folder, folder = MODELS / cell.name, EVALUATION / cell.name
    predictor = Predictor.load(model_folder)
    if predictor.vocabulary.tokens != Vocabulary.load(VOCABULARY).tokens:
        raise InputError(f"{model_folder} was trained with another vocabulary than {VOCABULARY}; run `dvc repro`")
    test = load_split(ENCODED / "test", len(predictor.vocabulary))
    documents, seen = load_documents(ENCODED / "test", len(test)), load_seen(ENCODED / "test", len(test))

    summary = partial(
        summarise, document=documents, seen=seen, bootstrap_samples=options.bootstrap_samples, seed=options.seed
    )
    adapt = _adaptations(options.adaptation, predictor.vocabulary, test, summary)
    predictor.model = ReadOnce(predictor.model)
    sums = score_split(predictor, test, f"evaluate {cell.name}")
    metrics = summary(sums.sentences) | {"parameters": predictor.model.parameter_count()}
    adapted = adapt.of([predictor.model], predictor.context, cell.name)
    of_seeds, adapted_seeds = {_seed(predictor): sums.sentences}, {_seed(predictor): adapted}
    seeds = seed_folders(model_folder)[1:]
    for path in seeds:
        other, called = Predictor.load(path), f"{cell.name}, seed {path.name}"
        other.model = ReadOnce(other.model)
        other_sums = score_split(other, test, f"evaluate {called}")
        figures = summary(other_sums.sentences) | {"parameters": other.model.parameter_count()}
        own, other_adapted = folder / SEEDS_FOLDER / path.name, adapt.of([other.model], other.context, called)
        write_metrics(own / "metrics.json", figures | metrics_of(other_adapted))
        write_sentences(own / "sentences.parquet", other_sums, documents, nats_of(other_adapted))
        of_seeds[_seed(other)], adapted_seeds[_seed(other)] = other_sums.sentences, other_adapted
    if len(of_seeds) > 1:
        over_seeds = partial(
            summarise_seeds, document=documents, bootstrap_samples=options.bootstrap_samples, seed=options.seed
        )
        metrics |= over_seeds(of_seeds)
        adapted = with_seeds(adapted_seeds, over_seeds)
        if adapt.ensembles:
            models = [Predictor.load(path).model for path in seed_folders(model_folder)]
            adapted |= adapt.of(models, predictor.context, f"{cell.name}, {len(models)} seeds")
    elif adapt.ensembles:
        print(
            f"{cell.name} has one seed, so there is no ensemble of it; `seeds: 5` in its entry of `cells` trains more"
        )
    write_metrics(folder / "metrics.json", metrics | metrics_of(adapted))
    for other in set(seed_folders(folder)[1:]) - {folder / path.relative_to(model_folder) for path in seeds}:
        shutil.rmtree(other)  # of an earlier run that DVC did not start
    write_seed_figures(folder / SEEDS_FOLDER / SEEDS_FILE, of_seeds)
    write_bands(folder / "bands.csv", sums.bands(cell.name))
    write_sentences(folder / "sentences.parquet", sums, documents, nats_of(adapted))
    texts = test if predictor.context == "sentence" else pieces(test, LAGS + 2)
    write_gradient_norms(folder / "gradient_flow.csv", gradient_norms(predictor.model, texts))
    chosen, shown = looked_at(test.lengths), showable(test.lengths)
    found = word_scores(predictor.model, predictor.passes(test), test, chosen, shown)
    write_words(folder / WORDS_FILE, found)
    decoding = Decoding(options.temperature, options.top_k, options.max_length, options.seed)
    (samples,) = predictor.generate([[]], options.generated_sentences, decoding)
    inside = look_inside(predictor.model, predictor.vocabulary, test, texts, _seed(predictor))
    for temperature in OTHER_TEMPERATURES:
        (others,) = predictor.generate(
            [[]], min(OTHER_SAMPLES, options.generated_sentences), replace(decoding, temperature=temperature)
        )
        inside["samples"][f"{temperature:g}"] = [readable(tokens) for tokens in others]
    write_inside(folder / INSIDE_FILE, inside)
    write_text(folder / "samples.txt", "".join(f"{readable(tokens)}\n" for tokens in samples))
    log_evaluation(params, cell.name)


def _adaptations(
    names: Sequence[str], vocabulary: Vocabulary, test: EncodedSplit, summary: Callable[[SentenceScores], dict]
) -> Adaptations:
    """What is to be adapted; the other splits are read only where something is."""
    if not names:
        return Adaptations(names, test, test, None, summary)
    valid, fivegram = load_split(ENCODED / "valid", len(vocabulary)), None
    if any(INTERPOLATION in parts_of(name) for name in names):
        train = load_split(ENCODED / "train", len(vocabulary))
        train = with_unknown_words(train, vocabulary.counts, seed=0, epoch=0)  # as the baselines count
        fivegram = KneserNey(train, len(vocabulary), ORDERS["fivegram"])
    return Adaptations(names, valid, test, fivegram, summary)


def _seed(predictor: Predictor) -> int:
    return int(predictor.train["seed"])


if __name__ == "__main__":
    run_stage(evaluate)
