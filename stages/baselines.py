"""baselines: the train and test splits -> the figures of models that only count words."""

from pipeline.evaluation.baselines import ORDERS, baseline_scores, counted_words
from pipeline.evaluation.gradient_flow import plain_rnn_norms, write_plain_rnn_norms
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.scores import summarise, write_bands, write_metrics, write_sentences
from pipeline.evaluation.words import PLAIN_RNNS_FILE, WORDS_FILE, looked_at, showable, write_words
from pipeline.params import load_params
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.paths import ENCODED, EVALUATION, VOCABULARY
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stage import run_stage
from pipeline.text.encoded import load_documents, load_seen, load_split
from pipeline.text.vocabulary import Vocabulary


def baselines() -> None:
    """Write data/evaluation/baselines/: figures of models that count, and of two plain RNNs nobody trained."""
    warn_if_not_exact()
    options = load_params().evaluate
    vocabulary = Vocabulary.load(VOCABULARY)
    train, test = (load_split(ENCODED / split, len(vocabulary)) for split in ("train", "test"))
    documents, seen = load_documents(ENCODED / "test", len(test)), load_seen(ENCODED / "test", len(test))
    folder = EVALUATION / "baselines"
    metrics, bands = {}, []
    with progress_bar("baselines", len(ORDERS), "models") as bar:
        for name, model, sums in baseline_scores(train, test, vocabulary.counts):
            metrics[name] = summarise(sums.sentences, documents, seen, options.bootstrap_samples, options.seed)
            bands += sums.bands(name)
            write_sentences(folder / "sentences" / f"{name}.parquet", sums, documents)
            if isinstance(model, KneserNey) and ORDERS[name] == max(ORDERS.values()):
                chosen, shown = looked_at(test.lengths), showable(test.lengths)
                write_words(folder / WORDS_FILE, counted_words(model, test, chosen, shown))
            bar.advance()
    write_plain_rnn_norms(folder / PLAIN_RNNS_FILE, plain_rnn_norms(len(vocabulary), test))
    write_metrics(folder / "metrics.json", metrics)
    write_bands(folder / "bands.csv", bands)


if __name__ == "__main__":
    run_stage(baselines)
