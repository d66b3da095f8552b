import errno
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text import encoded as encoded_splits
from pipeline.text import tokens
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.encoding import encode_tokens, id_dtype
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from tests.conftest import vocabulary_of

TUTORIAL = ["what", "are", "n't", "you", "understanding", "about", "this", "?", "!"]
WORDS = vocabulary_of({word: 20 - place for place, word in enumerate(TUTORIAL)}, size=None, sentences=1)
Rows = Sequence[tuple[str, Sequence[str | None]]]


class CountingBar(Bar):
    done = 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount


def write_rows(path: Path, rows: Rows) -> Path:
    splits, sentences = [split for split, _ in rows], [sentence for _, sentence in rows]
    pq.write_table(pa.table([splits, splits, sentences], schema=tokens.TOKEN_SCHEMA), path)
    return path


def one_each(sentence: list[str]) -> Rows:
    return [(split, sentence) for split in SPLITS]


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """Every split holds the sentences `this ?`, `you !` and `this ?`."""
    rows: Rows = [(split, list(words)) for split in SPLITS for words in (("this", "?"), ("you", "!"), ("this", "?"))]
    encode_tokens(write_rows(tmp_path / "tokens.parquet", rows), WORDS, tmp_path / "encoded", 1, Bar())
    return tmp_path / "encoded" / "train"


def test_the_sentence_of_the_tutorial(tmp_path: Path) -> None:
    found = Tokenizer(lowercase=True).tokenize("what aren't you understanding about this?!")
    assert found == TUTORIAL
    encode_tokens(write_rows(tmp_path / "tokens.parquet", one_each(found)), WORDS, tmp_path, 1, Bar())
    ids = load_split(tmp_path / "train").ids
    x, y = ids[:-1], ids[1:]
    assert x.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert y.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10, 1]
    assert ids.tolist() == WORDS.sentence_ids(found)


SENTENCES = st.lists(st.tuples(st.sampled_from(SPLITS), st.lists(st.sampled_from([*TUTORIAL, "other", "é"]))))


@given(more=SENTENCES, block=st.integers(1, 5))
def test_ids_are_those_of_each_sentence(more: Rows, block: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("encoded")
    rows = sorted([*one_each(["this"]), *more], key=lambda row: SPLITS.index(row[0]))
    path, bar = write_rows(folder / "tokens.parquet", rows), CountingBar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "READ_SENTENCES", block)
        patch.setattr(encoded_splits, "CHECKED_IDS", block)
        encode_tokens(path, WORDS, folder, 1, bar)
        splits = {split: load_split(folder / split, len(WORDS)) for split in SPLITS}
    assert bar.done == len(rows)
    for split, loaded in splits.items():
        sentences = [sentence for where, sentence in rows if where == split]
        ids = [[0, *(WORDS.tokens.index(w) if w in TUTORIAL else 11 for w in sentence), 1] for sentence in sentences]
        ends = np.cumsum([0, *map(len, ids)]).tolist()
        assert loaded.ids.tolist() == [id_ for sentence in ids for id_ in sentence]
        assert loaded.offsets.tolist() == ends
        assert len(loaded) == len(sentences)
        assert loaded.lengths.tolist() == [len(sentence) + 1 for sentence in sentences]
        assert loaded.tokens == loaded.lengths.sum()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_word_that_the_corpus_calls_unknown_is_unknown(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "READ_SENTENCES", 1)
    rows = [(split, ["this", None, "you"][: number % 4]) for split in SPLITS for number in range(20)]
    encode_tokens(write_rows(tmp_path / "tokens.parquet", rows), WORDS, tmp_path, workers, Bar())
    for split in SPLITS:
        loaded = load_split(tmp_path / split, len(WORDS))
        assert loaded.ids.tolist() == [0, 1, 0, 8, 1, 0, 8, 11, 1, 0, 8, 11, 5, 1] * 5
        assert len(loaded) == 20


def test_the_files_are_numpy_arrays_mapped_into_memory(encoded: Path) -> None:
    ids, offsets = np.load(encoded / "ids.npy"), np.load(encoded / "offsets.npy")
    assert (ids.dtype, ids.tolist()) == (np.dtype("<u2"), [0, 8, 9, 1, 0, 5, 10, 1, 0, 8, 9, 1])
    assert (offsets.dtype, offsets.tolist()) == (np.dtype("<i8"), [0, 4, 8, 12])
    loaded = load_split(encoded)
    assert isinstance(loaded.ids, np.memmap)
    assert isinstance(loaded.offsets, np.memmap)
    assert not loaded.ids.flags.writeable
    assert sorted(path.name for path in encoded.iterdir()) == ["ids.npy", "offsets.npy"]


@pytest.mark.parametrize(("size", "dtype"), [(4, "<u2"), (65_536, "<u2"), (65_537, "<i4"), (2**31 - 1, "<i4")])
def test_ids_take_two_bytes_while_they_fit(size: int, dtype: str) -> None:
    assert id_dtype(size) == np.dtype(dtype)


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_the_largest_id_survives(size: int, tmp_path: Path) -> None:
    vocabulary = Vocabulary(list(map(str, range(size))), [0] * size)
    encode_tokens(write_rows(tmp_path / "t", one_each([str(size - 2), "?"])), vocabulary, tmp_path, 1, Bar())
    ids = load_split(tmp_path / "test", size).ids
    assert ids.tolist() == [0, size - 2, size - 1, 1]
    assert ids.dtype == id_dtype(size)


@pytest.mark.parametrize("block", [4, 100])
def test_ids_outside_the_vocabulary_are_refused(block: int, encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_splits, "CHECKED_IDS", block)
    assert len(load_split(encoded, 11)) == 3
    with pytest.raises(InputError, match=r"ids\.npy: id 10 at 6 is outside the vocabulary of 10 tokens"):
        load_split(encoded, 10)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


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
    with pytest.raises(InputError) as error:
        load_split(encoded, len(WORDS))
    text = str(error.value)
    assert text.startswith(str(encoded))
    assert message in text
    assert "dvc repro encode" in text
    assert "\n" not in text


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(errno.EACCES, "Permission denied")])
def test_what_the_machine_lacks_is_not_the_files_fault(
    error: Exception, encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(type(error)):
        load_split(encoded)


def not_utf8(path: Path) -> None:
    words = pa.ListArray.from_arrays([0, 1], pa.array([b"\xff"]).cast(pa.string(), safe=False))
    pq.write_table(
        pa.table([["d"], ["train"], words.cast(tokens.TOKEN_SCHEMA.field("tokens").type)], tokens.TOKEN_SCHEMA), path
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing; run `dvc repro tokenize`"),
        (lambda path: cut(path, -10), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"document", b"d\xffcument")), "is damaged"),
        (not_utf8, "is damaged"),
        (
            lambda path: pq.write_table(pa.table({"tokens": ["a"]}), path),
            "should hold document: string, split: string, tokens: list<",
        ),
    ],
)
def test_unreadable_tokens_leave_no_ids(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "tokens.parquet", one_each(["this"]))
    damage(path)
    with pytest.raises(InputError, match="dvc repro tokenize") as error:
        encode_tokens(path, WORDS, tmp_path / "encoded", 1, Bar())
    assert str(error.value).startswith(f"{path} {message}")
    assert "\n" not in str(error.value)
    assert [found for found in (tmp_path / "encoded").rglob("*") if found.is_file()] == []


def test_a_split_in_memory_is_laid_out_as_one_on_disk() -> None:
    split = EncodedSplit.of([[START_ID, 5, 7, END_ID], [START_ID, END_ID]])
    assert split.ids.tolist() == [START_ID, 5, 7, END_ID, START_ID, END_ID]
    assert split.offsets.tolist() == [0, 4, 6]
    assert (len(split), split.tokens) == (2, 4)
    assert len(EncodedSplit.of([])) == 0
