"""tokenize: data/raw/documents.parquet -> data/tokens/sentences.parquet."""

from pipeline.params import load_params
from pipeline.runtime.paths import DOCUMENTS, PINS, TOKENS
from pipeline.runtime.pins import check_installed
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stage import run_stage
from pipeline.text.documents import read_documents
from pipeline.text.sentences import TRAIN, SentenceSplitter, training_sample
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens


def tokenize() -> None:
    """Split the documents into sentences and these into tokens, every sentence in one split only."""
    check_installed(PINS / "tokenize.txt")
    params = load_params().tokenize
    sample = training_sample(read_documents(DOCUMENTS)) if params.language == TRAIN else ()
    splitter = SentenceSplitter(params.language, sample)
    with progress_bar("tokenize", None, "documents") as bar:
        tokenizer = Tokenizer(params.lowercase)
        write_tokens(read_documents(DOCUMENTS), splitter, tokenizer, params, TOKENS, available_processors(), bar)


if __name__ == "__main__":
    run_stage(tokenize)
