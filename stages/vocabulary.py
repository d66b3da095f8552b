"""vocabulary: data/tokens/sentences.parquet -> data/vocabulary.tsv."""

from pathlib import Path

from pipeline.files import scratch_folder
from pipeline.parallel import available_workers
from pipeline.params import load_params
from pipeline.progress import progress_bar
from pipeline.stage import run_stage
from pipeline.text.counting import build_vocabulary, count_words

TOKENS, VOCABULARY = Path("data/tokens/sentences.parquet"), Path("data/vocabulary.tsv")


def vocabulary() -> None:
    """Keep the most frequent words of the training split."""
    with scratch_folder(VOCABULARY) as folder, progress_bar("vocabulary", None, "sentences") as bar:
        counts = count_words(TOKENS, "train", folder, available_workers(), bar)
        build_vocabulary(counts, load_params().vocabulary.size).save(VOCABULARY)


if __name__ == "__main__":
    run_stage(vocabulary)
