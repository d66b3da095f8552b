import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.params import load_params
from pipeline.pins import read_constraints, write_pins
from pipeline.text import corpus
from pipeline.text.corpus import documents, read_documents, write_documents
from stages.download import download

PROJECT = Path(__file__).parents[2]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(found=st.lists(st.tuples(ANY_TEXT, ANY_TEXT)))
def test_documents_come_back_in_their_order(
    found: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("documents") / "documents.parquet"
    write_documents(iter(found), path)
    assert list(read_documents(path)) == found


def test_blocks_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BLOCK_CHARACTERS", 100_000)

    def many() -> Iterator[tuple[str, str]]:
        for number in range(2000):
            yield str(number), f"{number} " * 2000

    path = tmp_path / "documents.parquet"
    tracemalloc.start()
    write_documents(many(), path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # bytes, of 19 million characters
    assert pq.ParquetFile(path).num_row_groups > 100
    assert sum(1 for _ in read_documents(path)) == 2000


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_documents([("id", "text")] * 1000, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, str]]:
        yield "id", "text"
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_documents(failing(), tmp_path / "documents.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"documents\.parquet is missing; run `dvc repro download`"):
        list(read_documents(tmp_path / "documents.parquet"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    write_documents([(str(number), f"text {number}") for number in range(1000)], path)
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:200], b"", whole[:50] + b"\xff" * 500 + whole[550:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"documents\.parquet is damaged") as error:
            list(read_documents(path))
        assert "\n" not in str(error.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), path)
    with pytest.raises(InputError, match=r"should hold id: string, text: string, but holds id: int64, text: string"):
        list(read_documents(path))


def write_params(folder: Path, **changes: str) -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["download"].update(changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def test_the_stage_writes_the_documents_of_the_configured_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, source="files", path="mine.txt")
    Path("mine.txt").write_text("One document.\n\nAnother document.\n")
    download()
    assert [text for _, text in read_documents(Path("data/raw/documents.parquet"))] == [
        "One document.",
        "Another document.",
    ]


def test_an_empty_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, source="files", path="mine.txt")
    Path("mine.txt").write_text("\n  \n")
    with pytest.raises(InputError, match=r"empty corpus: mine\.txt holds no text"):
        download()
    assert not Path("data/raw/documents.parquet").exists()


@pytest.mark.slow
def test_the_default_corpus(tmp_path: Path) -> None:
    params = load_params(PROJECT / "params.yaml").download
    pins = tmp_path / "corpus.txt"
    write_pins(read_constraints(PROJECT / "constraints.txt"), params.packages, pins)
    found = dict(documents(params, pins))
    assert list(found) == sorted(found)
    assert 4000 < len(found) < 6000
    words = sum(len(text.split()) for text in found.values())
    assert 1_200_000 < words < 2_000_000
    assert not any(junk in text for text in found.values() for junk in ("`", ">>>", "{", "://"))
