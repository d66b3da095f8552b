"""evaluate NAME: trained models and the test split -> their figures; what the first writes, how its gradient flows."""

import shutil
import sys
from dataclasses import replace

from pipeline.evaluation.gradient_flow import LAGS, gradient_norms, write_gradient_norms
from pipeline.evaluation.inside import look_inside, word_scores, write_inside
from pipeline.evaluation.scores import (
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
from pipeline.text.encoded import load_documents, load_seen, load_split
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

    sums = score_split(predictor, test, f"evaluate {cell.name}")
    metrics = summarise(sums.sentences, documents, seen, options.bootstrap_samples, options.seed)
    metrics["parameters"] = predictor.model.parameter_count()
    of_seeds = {_seed(predictor): sums.sentences}
    seeds = seed_folders(model_folder)[1:]
    for path in seeds:
        other = Predictor.load(path)
        other_sums = score_split(other, test, f"evaluate {cell.name}, seed {path.name}")
        figures = summarise(other_sums.sentences, documents, seen, options.bootstrap_samples, options.seed)
        own = folder / SEEDS_FOLDER / path.name
        write_metrics(own / "metrics.json", figures | {"parameters": other.model.parameter_count()})
        write_sentences(own / "sentences.parquet", other_sums, documents)
        of_seeds[_seed(other)] = other_sums.sentences
    if len(of_seeds) > 1:
        metrics |= summarise_seeds(of_seeds, documents, options.bootstrap_samples, options.seed)
    write_metrics(folder / "metrics.json", metrics)
    for other in set(seed_folders(folder)[1:]) - {folder / path.relative_to(model_folder) for path in seeds}:
        shutil.rmtree(other)  # of an earlier run that DVC did not start
    write_seed_figures(folder / SEEDS_FOLDER / SEEDS_FILE, of_seeds)
    write_bands(folder / "bands.csv", sums.bands(cell.name))
    write_sentences(folder / "sentences.parquet", sums, documents)
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


def _seed(predictor: Predictor) -> int:
    return int(predictor.train["seed"])


if __name__ == "__main__":
    run_stage(evaluate)
