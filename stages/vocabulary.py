"""vocabulary: data/tokens/sentences.parquet -> data/vocabulary.tsv."""

from pathlib import Path

from pipeline.parallel import available_workers
from pipeline.params import load_params
from pipeline.progress import progress_bar
from pipeline.stage import run_stage
from pipeline.text.counting import build_vocabulary, count_words


def vocabulary() -> None:
    """Keep the most frequent words of the training split."""
    with (
        progress_bar("vocabulary", None, "sentences") as bar,
        count_words(Path("data/tokens/sentences.parquet"), "train", available_workers(), bar) as counts,
    ):
        build_vocabulary(counts, load_params().vocabulary.size).save(Path("data/vocabulary.tsv"))


if __name__ == "__main__":
    run_stage(vocabulary)
