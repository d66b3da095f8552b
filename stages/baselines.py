"""baselines: the train and test splits -> the figures of models that only count words."""

from pipeline.evaluation.baselines import ORDERS, baseline_scores
from pipeline.evaluation.scores import summarise, write_bands, write_metrics, write_sentences
from pipeline.params import load_params
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.paths import ENCODED, EVALUATION, VOCABULARY
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stage import run_stage
from pipeline.text.encoded import load_documents, load_seen, load_split
from pipeline.text.vocabulary import Vocabulary


def baselines() -> None:
    """Write data/evaluation/baselines/: metrics.json, bands.csv and sentences/MODEL.parquet."""
    warn_if_not_exact()
    options = load_params().evaluate
    vocabulary = Vocabulary.load(VOCABULARY)
    train, test = (load_split(ENCODED / split, len(vocabulary)) for split in ("train", "test"))
    documents, seen = load_documents(ENCODED / "test", len(test)), load_seen(ENCODED / "test", len(test))
    folder = EVALUATION / "baselines"
    metrics, bands = {}, []
    with progress_bar("baselines", len(ORDERS), "models") as bar:
        for name, sums in baseline_scores(train, test, vocabulary.counts):
            metrics[name] = summarise(sums.sentences, documents, seen, options.bootstrap_samples, options.seed)
            bands += sums.bands(name)
            write_sentences(folder / "sentences" / f"{name}.parquet", sums, documents)
            bar.advance()
    write_metrics(folder / "metrics.json", metrics)
    write_bands(folder / "bands.csv", bands)


if __name__ == "__main__":
    run_stage(baselines)
