"""Where documents come from: the source that params.yaml names."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.urls import shown, split_chain
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources.docstrings import docstring_documents
from pipeline.text.sources.fetch import Fetcher, is_local
from pipeline.text.sources.text_files import file_documents


def documents(params: DownloadParams, pins: Path, fetcher: Fetcher) -> Iterator[Document]:
    """Yield every document of the source that `params` names, always in the same order.

    The file `pins` has a line `name==version` for each of `params.packages`; it is read for `installed-docs` only.

    Raises:
        InputError: the source is missing, damaged or without any text, or a package is not at its pinned version.
    """
    if params.source == "installed-docs":
        found = docstring_documents(params.packages, pins, params.group_by_folder)
        where = "the docstrings of download.packages hold no prose"
    elif params.source == "files":
        found, where = _of_file(SourceFile(url=params.path), params, fetcher), f"{shown(params.path)} holds no text"
    else:
        found = (document for file in params.sources[params.source] for document in _of_file(file, params, fetcher))
        where = f"no file of download.sources.{params.source} holds text"
    number = 0
    for number, document in enumerate(found, start=1):  # noqa: B007
        yield document
    if not number:
        raise InputError(f"empty corpus: {where}; see section download of params.yaml")


def _of_file(file: SourceFile, params: DownloadParams, fetcher: Fetcher) -> Iterator[Document]:
    members, url = split_chain(file.url)
    path = fetcher.fetch(url, file.checksum)
    yield from file_documents(path, members, file, params, name=str(path) if is_local(url) else shown(url))
