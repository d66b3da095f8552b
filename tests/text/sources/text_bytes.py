"""Files of text as bytes, of each kind and packed, and how tests read them."""

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources.text_files import file_documents, text_id

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


def download_params(
    text_column: str = "body",
    txt_documents: str = "line",
    max_bytes: int = 1 << 30,
    group_column: str | None = None,
    group_by_folder: bool = False,
    delimiter: str = "auto",
) -> DownloadParams:
    values = {"source": "files", "path": "corpus", "packages": ["numpy"], "sources": {}}
    values |= {"delimiter": delimiter, "group_column": group_column, "group_by_folder": group_by_folder}
    values |= {"text_column": text_column, "txt_documents": txt_documents, "max_bytes": max_bytes}
    return DownloadParams.model_validate(values)


def csv_bytes(texts: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([["id", "body"], *([number, text] for number, text in enumerate(texts))])
    return file.getvalue().encode()


def jsonl_bytes(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "body": text}) + "\n" for text in texts).encode()


def parquet_bytes(texts: list[str] | pa.Array) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(texts))), "body": texts}), file)
    return file.getvalue()


def zip_bytes(members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar_bytes(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # pyrefly: ignore[no-matching-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def read_members(path: Path, members: str = "", **source: object) -> list[Document]:
    return list(file_documents(path, members, SourceFile.model_validate({"url": "x", **source}), download_params()))


def read(path: Path, txt_documents: str = "line", text_column: str = "body") -> list[str]:
    found = list(file_documents(path, "", SourceFile(url=str(path)), download_params(text_column, txt_documents)))
    assert all(document == Document(text_id(document.text), document.text) for document in found)
    return [document.text for document in found]
