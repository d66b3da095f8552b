"""evaluate NAME: a trained model and the test split -> its figures, what it writes, how its gradient flows."""

import sys

from pipeline.evaluation.gradient_flow import gradient_norms, write_gradient_norms
from pipeline.evaluation.scores import summarise, write_bands, write_metrics, write_sentences
from pipeline.inference.generation import Decoding, readable
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import ENCODED, EVALUATION, MODELS, VOCABULARY
from pipeline.runtime.stage import run_stage
from pipeline.text.encoded import load_documents, load_seen, load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.runs import log_evaluation


def evaluate() -> None:
    """Write data/evaluation/NAME/: metrics.json, bands.csv, sentences.parquet, gradient_flow.csv and samples.txt."""
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
    write_metrics(folder / "metrics.json", metrics | {"parameters": predictor.model.parameter_count()})
    write_bands(folder / "bands.csv", sums.bands(cell.name))
    write_sentences(folder / "sentences.parquet", sums, documents)
    write_gradient_norms(folder / "gradient_flow.csv", gradient_norms(predictor.model, test))
    decoding = Decoding(options.temperature, options.top_k, options.max_length, options.seed)
    (samples,) = predictor.generate([[]], options.generated_sentences, decoding)
    write_text(folder / "samples.txt", "".join(f"{readable(tokens)}\n" for tokens in samples))
    log_evaluation(params, cell.name)


if __name__ == "__main__":
    run_stage(evaluate)
