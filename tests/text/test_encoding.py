from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.runtime.remarks import Remarks
from pipeline.text import encoded as encoded_splits
from pipeline.text import tokens
from pipeline.text.encoded import load_documents, load_seen, load_split
from pipeline.text.encoding import encode_tokens, id_dtype
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from tests.text.token_files import TUTORIAL, WORDS, Rows, cut, one_each, write_rows


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


class CountingBar(Bar):
    done = 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount


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


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
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


def write_documents(path: Path, names: list[tuple[str, str]]) -> Path:
    """Tokens with a sentence for each pair of split and document."""
    splits, documents = [split for split, _ in names], [document for _, document in names]
    pq.write_table(pa.table([documents, splits, [["this"]] * len(names)], schema=tokens.TOKEN_SCHEMA), path)
    return path


@pytest.mark.parametrize("block", [1, 2, 100])
def test_the_test_split_says_which_sentences_share_a_document(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "READ_SENTENCES", block)
    names = [("train", "b"), ("valid", "c"), *(("test", name) for name in "bbacab")]
    path = write_documents(tmp_path / "tokens.parquet", names)
    encode_tokens(path, WORDS, tmp_path, 1, Bar())
    documents = load_documents(tmp_path / "test", 6)
    assert documents is not None
    assert load_seen(tmp_path / "test", 6).all()  # every sentence is the same
    assert (documents.dtype, documents.tolist()) == (np.dtype(np.int32), [0, 0, 1, 2, 1, 0])
    # Training does not depend on what it does not read.
    assert sorted(file.name for file in (tmp_path / "train").iterdir()) == ["ids.npy", "offsets.npy"]


def test_a_corpus_without_documents_has_none(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "tokens.parquet", [(split, tokens.NO_DOCUMENT) for split in SPLITS * 2])
    encode_tokens(path, WORDS, tmp_path, 1, Bar())
    assert load_documents(tmp_path / "test", 2) is None


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


@pytest.mark.parametrize(("known", "warnings"), [(4, 0), (3, 1)])
def test_many_unknown_words_are_warned_of(known: int, warnings: int, tmp_path: Path) -> None:
    remarks = Remarks()
    rows = one_each([*[WORDS.tokens[2]] * known, "never seen"])
    encode_tokens(write_rows(tmp_path / "tokens.parquet", rows), WORDS, tmp_path, 1, Bar(), remarks)
    assert remarks.sums["tokens of test"] == {"known": known, "unknown": 1}
    assert len(remarks.warnings) == warnings
