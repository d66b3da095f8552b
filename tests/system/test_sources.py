"""Corpora from elsewhere, through DVC and the stages as a user runs them: a server on loopback, good and bad."""

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.text.documents import read_documents
from pipeline.text.encoded import load_split
from pipeline.text.sources import fetch
from pipeline.text.splits import SPLITS
from pipeline.text.vocabulary import Vocabulary
from stages.download import download
from tests.system.conftest import Clone, write_corpus
from tests.text.sources.server import Server, bomb, serving


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"), tracking=False)


@pytest.fixture
def server(clone: Clone) -> Iterator[Server]:
    write_corpus(clone.folder / "comments.csv", 300)
    with serving() as server:
        server.files["/comments.csv"] = (clone.folder / "comments.csv").read_bytes()
        server.files["/comments.csv.gz"] = gzip.compress(server.files["/comments.csv"])
        yield server


def texts(clone: Clone) -> list[str]:
    return [document.text for document in read_documents(clone.folder / "data/raw/documents.parquet")]


@pytest.mark.slow
def test_a_url_is_watched(clone: Clone, server: Server) -> None:
    clone.change(download__source="files", download__path=f"{server.url}/comments.csv", vocabulary__size=80)
    assert clone.repro("vocabulary") == ["pins", "download", "tokenize", "vocabulary"]
    assert len(texts(clone)) == 300
    assert clone.repro("vocabulary") == []
    write_corpus(Path(clone.folder, "more.csv"), 310)
    server.files["/comments.csv"] = (clone.folder / "more.csv").read_bytes()
    assert clone.repro("vocabulary") == ["download", "tokenize", "vocabulary"]
    assert len(texts(clone)) == 310


def test_a_member_of_an_archive_of_the_users_own_table(clone: Clone, server: Server) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("deep/comments.csv", server.files["/comments.csv"])
        archive.writestr("deep/other.csv", "nothing\n")
    server.files["/corpus.zip"] = file.getvalue()
    mine = [{"url": f"zip://deep/com*.csv::{server.url}/corpus.zip"}]
    clone.change(download__source="mine", download__sources={"mine": mine}, download__path="corpus")
    assert "download" in clone.repro("download")
    assert len(texts(clone)) == 300


@pytest.mark.parametrize(
    ("path", "checksum", "expected"),
    [
        ("/nothing.csv", None, "/nothing.csv: the server answered 404 Not Found"),
        ("/broken.csv", None, "/broken.csv: the server answered 500"),
        ("/comments.csv", "sha256:" + "0" * 64, "has the checksum sha256:"),
        ("/endless.csv", None, "/endless.csv is larger than 1,000,000 bytes"),
        ("/bomb.txt.gz", None, "/bomb.txt.gz holds more than 1,000,000 bytes"),
        ("/cut.csv.gz", None, "/cut.csv.gz is not a whole gzip file"),
    ],
)
def test_a_bad_server_ends_in_one_clear_line(
    clone: Clone, server: Server, path: str, checksum: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/bomb.txt.gz"] = bomb(100_000_000)
    server.files["/cut.csv.gz"] = server.files["/comments.csv.gz"][:-50]
    server.answers["/broken.csv"] = [500] * 5
    server.redirects["/endless.csv"] = "/endless"
    clone.change(
        download__source="mine",
        download__sources={"mine": [{"url": f"{server.url}{path}", "checksum": checksum}]},
        download__max_bytes=1_000_000,
    )
    before = clone.digests()
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.01)
    monkeypatch.chdir(clone.folder)
    with pytest.raises(InputError) as refused:
        download()
    line = str(refused.value)
    assert "\n" not in line
    assert expected in line
    assert clone.digests() == before


def test_a_redirect_is_followed_and_a_dropped_connection_taken_up(clone: Clone, server: Server) -> None:
    server.redirects["/old.csv.gz"] = "/comments.csv.gz"
    mine = [{"url": f"{server.url}/old.csv.gz"}]
    clone.change(download__source="mine", download__sources={"mine": mine}, download__max_bytes=1_000_000)
    server.dropping["/comments.csv.gz"] = 1
    clone.stage("download")
    assert [path for _, path, _ in server.requests] == ["/old.csv.gz", "/comments.csv.gz"] * 2
    assert len(texts(clone)) == 300


@pytest.mark.slow
def test_penn_treebank_keeps_its_ten_thousand_types_and_its_splits(
    clone: Clone, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the README says to run it, from a mirror and as far as the text goes."""
    monkeypatch.setattr(Clone, "environment", clone.environment | {"RNNLM_MIRROR": str(shared_data)})
    clone.git("checkout", "--", "params.yaml")
    clone.change(download__source="ptb", vocabulary__size=None)
    clone.repro("encode")
    vocabulary = Vocabulary.load(clone.folder / "data/vocabulary.tsv")
    assert len(vocabulary) == 10_000 + 1  # with SENTENCE_START, which Mikolov does not count
    assert "<unk>" not in vocabulary.tokens
    splits = {split: load_split(clone.folder / "data/encoded" / split, len(vocabulary)) for split in SPLITS}
    assert [len(splits[split]) for split in SPLITS] == [42_068, 3_370, 3_761]
    assert [splits[split].tokens for split in SPLITS] == [929_589, 73_760, 82_430]
    unknown = (shared_data / "ptb/ptb.train.txt").read_text().split().count("<unk>")
    assert vocabulary.counts[-1] == unknown == (splits["train"].ids == vocabulary.unknown_id).sum()
    assert "N" in vocabulary.tokens
