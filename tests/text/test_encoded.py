import errno
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text import encoded as encoded_splits
from pipeline.text.encoded import EncodedSplit, load_documents, load_seen, load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.splits import SPLITS
from pipeline.text.vocabulary import END_ID, START_ID
from tests.text.token_files import WORDS, Rows, cut, write_rows


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """Every split holds the sentences `this ?`, `you !` and `this ?`."""
    rows: Rows = [(split, list(words)) for split in SPLITS for words in (("this", "?"), ("you", "!"), ("this", "?"))]
    encode_tokens(write_rows(tmp_path / "tokens.parquet", rows), WORDS, tmp_path / "encoded", 1, Bar())
    return tmp_path / "encoded" / "train"


def rewrite(path: Path, end: bytes) -> None:
    path.write_bytes(path.read_bytes()[: -len(end)] + end)


def test_the_files_are_numpy_arrays_mapped_into_memory(encoded: Path) -> None:
    ids, offsets = np.load(encoded / "ids.npy"), np.load(encoded / "offsets.npy")
    assert (ids.dtype, ids.tolist()) == (np.dtype("<u2"), [0, 8, 9, 1, 0, 5, 10, 1, 0, 8, 9, 1])
    assert (offsets.dtype, offsets.tolist()) == (np.dtype("<i8"), [0, 4, 8, 12])
    loaded = load_split(encoded)
    assert isinstance(loaded.ids, np.memmap)
    assert isinstance(loaded.offsets, np.memmap)
    assert not loaded.ids.flags.writeable
    assert sorted(path.name for path in encoded.iterdir()) == ["ids.npy", "offsets.npy"]


@pytest.mark.parametrize("block", [4, 100])
def test_ids_outside_the_vocabulary_are_refused(block: int, encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_splits, "CHECKED_IDS", block)
    assert len(load_split(encoded, 11)) == 3
    with pytest.raises(InputError, match=r"ids\.npy: id 10 at 6 is outside the vocabulary of 10 tokens"):
        load_split(encoded, 10)


def saved(name: str, values: object, dtype: str) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, np.array(values, dtype))


def archive(folder: Path) -> None:
    with (folder / "ids.npy").open("wb") as file:
        np.savez(file, ids=np.zeros(3))


def with_header(old: bytes, new: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "ids.npy"
        path.write_bytes(path.read_bytes().replace(old, new))

    return damage


IDS = [0, 8, 9, 1, 0, 5, 10, 1, 0, 8, 9, 1]


def refusal(load: Callable[[Path, int], object], folder: Path, size: int) -> str:
    """What is said of a damaged folder: one line that begins with its name, and what to do."""
    with pytest.raises(InputError) as error:
        load(folder, size)
    text = str(error.value)
    assert text.startswith(str(folder))
    assert "dvc repro encode" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "ids.npy").unlink(), "ids.npy is missing; run `dvc repro encode`"),
        (lambda folder: (folder / "offsets.npy").unlink(), "offsets.npy is missing; run `dvc repro encode`"),
        (lambda folder: cut(folder / "ids.npy", -2), "ids.npy is damaged"),
        (lambda folder: cut(folder / "ids.npy", 40), "ids.npy is damaged"),
        (lambda folder: cut(folder / "ids.npy", 0), "ids.npy is damaged"),
        (lambda folder: cut(folder / "offsets.npy", -8), "offsets.npy is damaged"),
        (lambda folder: (folder / "ids.npy").write_text("ids\n"), "ids.npy is damaged"),
        (lambda folder: (folder / "ids.npy").write_bytes(pickle.dumps(np.array(IDS, "u2"))), "ids.npy is damaged"),
        (lambda folder: (folder / "ids.npy").write_bytes(b"PK\x03\x04, but no archive"), "ids.npy is damaged"),
        (with_header(b"'shape': (12,), }", b"'shape': (12,       "), "ids.npy is damaged"),
        (with_header(b"'descr': '<u2'", b"'descr': '<08'"), "ids.npy is damaged"),
        (with_header(b", 'fortran", b",b'fortran"), "ids.npy is damaged"),
        (archive, "not an archive"),
        (saved("ids.npy", IDS, "i8"), "ids.npy must hold one dimension of uint16 or int32, not 1 dimensions of int64"),
        (saved("ids.npy", [IDS], "u2"), "ids.npy must hold one dimension of uint16 or int32, not 2 dimensions"),
        (saved("ids.npy", IDS, "O"), "ids.npy is damaged"),
        (saved("offsets.npy", [0, 4, 8, 12], "i4"), "offsets.npy must hold one dimension of int64, not 1 dimensions"),
        (saved("offsets.npy", [0], "i8"), "offsets.npy must hold 0 and then the end of at least one sentence"),
        (saved("offsets.npy", [4, 8, 12], "i8"), "offsets.npy must hold 0 and then the end of at least one sentence"),
        (saved("offsets.npy", [0, 8, 4, 12], "i8"), "offsets.npy: sentence 1 would end at 4, less than two ids after"),
        (saved("offsets.npy", [0, 4, 4, 12], "i8"), "offsets.npy: sentence 1 would end at 4, less than two ids after"),
        (saved("offsets.npy", [0, 4, 8], "i8"), "the last sentence ends at 8, but ids.npy has 12 ids"),
        (saved("offsets.npy", [0, 4, 8, 16], "i8"), "the last sentence ends at 16, but ids.npy has 12 ids"),
        (
            saved("offsets.npy", [0, 3, 8, 12], "i8"),
            "ids.npy does not fit offsets.npy: not every sentence begins with its only 0 and ends",
        ),
        (
            saved("offsets.npy", [0, 8, 12], "i8"),
            "ids.npy does not fit offsets.npy: not every sentence begins with its only 0 and ends",
        ),
        (
            saved("ids.npy", [*IDS[:-1], 9], "u2"),
            "ids.npy does not fit offsets.npy: not every sentence begins with its only 0 and ends",
        ),
        (
            saved("ids.npy", [*IDS[:5], 1, *IDS[6:]], "u2"),
            "ids.npy does not fit offsets.npy: not every sentence begins with its only 0",
        ),
        (saved("ids.npy", [*IDS[:5], -1, *IDS[6:]], "i4"), "ids.npy: id -1 at 5 is outside the vocabulary"),
        (saved("ids.npy", [*IDS[:5], 12, *IDS[6:]], "u2"), "id 12 at 5 is outside the vocabulary of 12 tokens"),
    ],
)
def test_damaged_files_are_named(damage: Callable[[Path], object], message: str, encoded: Path) -> None:
    damage(encoded)
    assert message in refusal(load_split, encoded, len(WORDS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "documents.npy").unlink(), "documents.npy is missing; run `dvc repro encode`"),
        (lambda folder: cut(folder / "documents.npy", -2), "documents.npy is damaged"),
        (saved("documents.npy", [0, 1, 1], "i8"), "must hold one dimension of int32, not 1 dimensions of int64"),
        (saved("documents.npy", [0, 1], "i4"), "documents.npy holds 2 sentences, but offsets.npy has 3"),
        (saved("documents.npy", [0, 2, 2], "i4"), "documents.npy must hold indices from 0, none left out"),
        (saved("documents.npy", [-1, 0, 1], "i4"), "documents.npy must hold indices from 0, none left out"),
        (saved("documents.npy", [1, 1, 2], "i4"), "documents.npy must hold indices from 0, none left out"),
    ],
)
def test_damaged_documents_are_named(damage: Callable[[Path], object], message: str, encoded: Path) -> None:
    test = encoded.parent / "test"
    assert load_documents(test, 3) is not None
    damage(test)
    assert message in refusal(load_documents, test, 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "seen.npy").unlink(), "seen.npy is missing; run `dvc repro encode`"),
        (lambda folder: cut(folder / "seen.npy", -2), "seen.npy is damaged"),
        (saved("seen.npy", [0, 1, 1], "i4"), "must hold one dimension of bool, not 1 dimensions of int32"),
        (saved("seen.npy", [0, 1], "?"), "seen.npy holds 2 sentences, but offsets.npy has 3"),
        (lambda folder: rewrite(folder / "seen.npy", b"\x02"), "seen.npy holds bytes that are neither true nor false"),
    ],
)
def test_a_damaged_file_of_what_was_seen_is_named(
    damage: Callable[[Path], object], message: str, encoded: Path
) -> None:
    test = encoded.parent / "test"
    assert load_seen(test, 3).tolist() == [True, True, True]
    damage(test)
    assert message in refusal(load_seen, test, 3)


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(errno.EACCES, "Permission denied")])
def test_what_the_machine_lacks_is_not_the_files_fault(
    error: Exception, encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(type(error)):
        load_split(encoded)


def test_a_split_in_memory_is_laid_out_as_one_on_disk() -> None:
    split = EncodedSplit.of([[START_ID, 5, 7, END_ID], [START_ID, END_ID]])
    assert split.ids.tolist() == [START_ID, 5, 7, END_ID, START_ID, END_ID]
    assert split.offsets.tolist() == [0, 4, 6]
    assert (len(split), split.tokens) == (2, 4)
    assert len(EncodedSplit.of([])) == 0
