import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text import documents
from pipeline.text.documents import Document, blocks, read_documents, write_documents
from pipeline.text.splits import SPLITS

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ANY_DOCUMENT = st.builds(Document, ANY_TEXT, ANY_TEXT, st.none() | st.sampled_from(SPLITS), st.booleans())


@given(found=st.lists(ANY_DOCUMENT))
def test_documents_come_back_in_their_order(found: list[Document], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("documents") / "documents.parquet"
    write_documents(iter(found), path)
    assert list(read_documents(path)) == found


def test_documents_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "WRITTEN_CHARACTERS", 100_000)

    def many() -> Iterator[Document]:
        for number in range(2000):
            yield Document(str(number), f"{number} " * 2000)

    path = tmp_path / "documents.parquet"
    tracemalloc.start()
    write_documents(many(), path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # bytes, of 19 million characters
    assert pq.ParquetFile(path).num_row_groups > 100
    assert sum(1 for _ in read_documents(path)) == 2000


def test_a_block_ends_by_characters_or_by_documents() -> None:
    found = [Document(str(number), "x" * size) for number, size in enumerate([3, 3, 9, 1, 1, 1, 1])]
    sizes = [[len(document.text) for document in block] for block in blocks(found, 5, 3)]
    assert sizes == [[3, 3], [9], [1, 1, 1], [1]]


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_documents([Document("id", "text")] * 1000, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    def failing() -> Iterator[Document]:
        yield Document("id", "text")
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_documents(failing(), tmp_path / "documents.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"documents\.parquet is missing; run `dvc repro download`"):
        list(read_documents(tmp_path / "documents.parquet"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    write_documents([Document(str(number), f"text {number}") for number in range(1000)], path)
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:200], b"", whole[:50] + b"\xff" * 500 + whole[550:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"documents\.parquet is damaged") as error:
            list(read_documents(path))
        assert "\n" not in str(error.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), path)
    with pytest.raises(InputError, match=r"should hold id: string, text: string, .*, but holds id: int64, text: strin"):
        list(read_documents(path))
