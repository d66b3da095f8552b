"""vocabulary: data/tokens/sentences.parquet -> data/vocabulary.tsv."""

from pathlib import Path

from pipeline.params import load_params
from pipeline.stage import run
from pipeline.text.counting import count_words
from pipeline.text.vocabulary import Vocabulary


def vocabulary() -> None:
    """Keep the most frequent words of the training split."""
    counts, sentences = count_words(Path("data/tokens/sentences.parquet"), "train")
    Vocabulary.build(counts, load_params().vocabulary.size, sentences).save(Path("data/vocabulary.tsv"))


if __name__ == "__main__":
    run(vocabulary)
