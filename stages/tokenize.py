"""tokenize: data/raw/documents.parquet -> data/tokens/sentences.parquet, and what became of each sentence."""

from pipeline.params import load_params
from pipeline.runtime.paths import DOCUMENTS, PINS, TOKENS
from pipeline.runtime.pins import check_installed
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.remarks import Remarks
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
    remarks = Remarks()
    splitter = SentenceSplitter(params.language, sample)
    with progress_bar("tokenize", None, "documents") as bar:
        tokenizer = Tokenizer(params.lowercase, params.by_character)
        documents, workers = read_documents(DOCUMENTS), available_processors()
        write_tokens(documents, splitter, tokenizer, params, TOKENS, workers, bar, remarks)
    remarks.end("tokenize")


if __name__ == "__main__":
    run_stage(tokenize)
