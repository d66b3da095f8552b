"""download: the configured source of text -> data/raw/documents.parquet."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.params import load_params
from pipeline.progress import progress_bar
from pipeline.stage import run
from pipeline.text.corpus import documents, write_documents


def download() -> None:
    """Write the documents of the source that section `download` of params.yaml names."""
    with progress_bar("download", None, "documents") as bar:

        def counted() -> Iterator[tuple[str, str]]:
            for document in documents(load_params().download, Path("data/pins/corpus.txt")):
                yield document
                bar.advance()

        write_documents(counted(), Path("data/raw/documents.parquet"))


if __name__ == "__main__":
    run(download)
