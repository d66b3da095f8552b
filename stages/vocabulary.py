"""vocabulary: data/tokens/sentences.parquet -> data/vocabulary.tsv."""

from pipeline.params import load_params
from pipeline.runtime.files import scratch_folder
from pipeline.runtime.paths import TOKENS, VOCABULARY
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stage import run_stage
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.vocabulary import SPECIALS


def vocabulary() -> None:
    """Keep the most frequent words of the training split."""
    with scratch_folder(VOCABULARY) as folder, progress_bar("vocabulary", None, "sentences") as bar:
        counts = count_words(TOKENS, "train", folder, available_processors(), bar)
        size = load_params().vocabulary.size
        words = build_vocabulary(counts, size)
        words.save(VOCABULARY)
    if size is not None and len(words) < size:
        print(
            f"vocabulary.size allows {size:,} words, the training split has {len(words) - SPECIALS:,}: the models have "
            f"these and the {SPECIALS} special tokens"
        )


if __name__ == "__main__":
    run_stage(vocabulary)
