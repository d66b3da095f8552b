"""Where documents come from: the source that params.yaml names."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.remarks import Remarks
from pipeline.runtime.urls import shown, split_chain
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources.docstrings import docstring_documents
from pipeline.text.sources.fetch import Fetcher, is_local
from pipeline.text.sources.text_files import file_documents


def documents(
    params: DownloadParams, pins: Path, fetcher: Fetcher, remarks: Remarks | None = None
) -> Iterator[Document]:
    """Yield every document of the source that `params` names, always in the same order.

    The file `pins` has a line `name==version` for each of `params.packages`; it is read for `installed-docs` only.
    What became of each file, row or module is counted in `remarks`.

    Raises:
        InputError: the source is missing, damaged or without any text, or a package is not at its pinned version.
    """
    remarks = remarks or Remarks()
    if params.source == "installed-docs":
        found = docstring_documents(params.packages, pins, params.group_by_folder, remarks)
        where = "the docstrings of download.packages hold no prose"
    elif params.source == "files":
        found = _of_file(SourceFile(url=params.path), params, fetcher, remarks)
        where = f"{shown(params.path)} holds no text"
    else:
        found = (found for file in params.sources[params.source] for found in _of_file(file, params, fetcher, remarks))
        where = f"no file of download.sources.{params.source} holds text"
    number = 0
    for number, document in enumerate(found, start=1):  # noqa: B007
        yield document
    if not number:
        raise InputError(f"empty corpus: {where}; see section download of params.yaml")


def _of_file(file: SourceFile, params: DownloadParams, fetcher: Fetcher, remarks: Remarks) -> Iterator[Document]:
    members, url = split_chain(file.url)
    path = fetcher.fetch(url, file.checksum)
    name = str(path) if is_local(url) else shown(url)
    yield from file_documents(path, members, file, params, name, remarks)
