"""download: the configured source of text -> data/raw/documents.parquet, and what became of each file and row."""

from collections.abc import Iterator

from pipeline.params import load_params
from pipeline.runtime.paths import DOCUMENTS, PINS
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.remarks import Remarks
from pipeline.runtime.stage import run_stage
from pipeline.text.documents import Document, write_documents
from pipeline.text.sources.corpus import documents
from pipeline.text.sources.fetch import Fetcher, mirror_folder


def download() -> None:
    """Write the documents of the source that section `download` of params.yaml names."""
    params = load_params().download
    remarks = Remarks()
    fetcher = Fetcher(params.max_bytes, mirror=mirror_folder())
    with progress_bar("download", None, "documents") as bar:

        def counted() -> Iterator[Document]:
            for document in documents(params, PINS / "corpus.txt", fetcher, remarks):
                yield document
                bar.advance()

        write_documents(counted(), DOCUMENTS)
    remarks.end("download")


if __name__ == "__main__":
    run_stage(download)
