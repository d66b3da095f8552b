"""encode: data/tokens/sentences.parquet and data/vocabulary.tsv -> the ids of each split, and how many are unknown."""

from pipeline.runtime.paths import ENCODED, TOKENS, VOCABULARY
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.remarks import Remarks
from pipeline.runtime.stage import run_stage
from pipeline.text.encoding import encode_tokens
from pipeline.text.vocabulary import Vocabulary


def encode() -> None:
    """Replace every token by its id."""
    remarks = Remarks()
    words = Vocabulary.load(VOCABULARY)
    with progress_bar("encode", None, "sentences") as bar:
        encode_tokens(TOKENS, words, ENCODED, available_processors(), bar, remarks)
    remarks.end("encode")


if __name__ == "__main__":
    run_stage(encode)
