import os
import signal
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.runtime.remarks import Remarks
from pipeline.text import tokens
from pipeline.text.counting import count_words
from pipeline.text.documents import Document
from pipeline.text.params import SplitShares, TokenizeParams
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.splits import SPLITS, split_of
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import TOKEN_SCHEMA, read_documents_of, write_tokens

SPLITTER, TOKENIZER = SentenceSplitter("english"), Tokenizer(lowercase=True)
SHARES = SplitShares(train=50.0, valid=25.0, test=25.0)
TOKENIZE = TokenizeParams(language="english", lowercase=True, deduplicate=True, splits=SHARES)
# The id decides the split; these are some that go where the tests want them.
IDS = {split: [f"d{n}" for n in range(100) if split_of(f"d{n}", SHARES) == split] for split in SPLITS}
TRAIN, TRAIN_TOO, *_ = IDS["train"]
VALID, VALID_TOO, *_ = IDS["valid"]
TEST, TEST_TOO, *_ = IDS["test"]


class CountingBar(Bar):
    done = 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount


def write(
    documents: Iterable[tuple],
    path: Path,
    *,
    lowercase: bool = True,
    deduplicate: bool = True,
    workers: int = 1,
    bar: Bar | None = None,
    remarks: Remarks | None = None,
) -> list[tuple[str, str]]:
    """The rows of the file, as document and tokens."""
    params = TokenizeParams(language="english", lowercase=lowercase, deduplicate=deduplicate, splits=SHARES)
    found = (Document(*document) for document in documents)
    write_tokens(found, SPLITTER, Tokenizer(lowercase), params, path, workers, bar or Bar(), remarks)
    rows = pq.read_table(path).to_pylist()
    assert all(row["split"] == split_of(row["document"], SHARES) for row in rows)
    return [(row["document"], " ".join(row["tokens"])) for row in rows]


def test_rows_of_train_then_valid_then_test_each_in_the_order_of_documents(tmp_path: Path) -> None:
    documents = [
        (TEST, "It's the test. Dr. Who?"),
        (TRAIN_TOO, "A train.\n\n \n\nAnother PARAGRAPH"),
        (VALID, "Valid!"),
        (VALID_TOO, "\n"),
        (TRAIN, "A second train."),
    ]
    bar = CountingBar()
    assert write(documents, tmp_path / "tokens.parquet", bar=bar) == [
        (TRAIN_TOO, "a train ."),
        (TRAIN_TOO, "another paragraph"),
        (TRAIN, "a second train ."),
        (VALID, "valid !"),
        (TEST, "it 's the test ."),
        (TEST, "dr. who ?"),
    ]
    assert bar.done == 5
    assert pq.read_schema(tmp_path / "tokens.parquet").equals(TOKEN_SCHEMA)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.parquet"]


SHARED = [(TRAIN, "Of train. All."), (VALID, "all. Of valid. Later"), (TEST, "Later. LATER Of test. All .")]


@pytest.mark.parametrize("documents", list(permutations(SHARED)))
def test_a_sentence_is_kept_in_train_before_valid_before_test(
    documents: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", 1)
    assert write(documents, tmp_path / "tokens.parquet") == [
        (TRAIN, "of train ."),
        (TRAIN, "all ."),
        (VALID, "of valid ."),
        (VALID, "later"),
        (TEST, "later ."),
        (TEST, "later of test ."),
    ]


@pytest.mark.parametrize("block_characters", [1, 1 << 20])
def test_a_sentence_of_one_split_is_kept_where_it_comes_first(
    block_characters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", block_characters)
    documents = [
        (TRAIN_TOO, "Twice. Twice. Once."),
        (TRAIN, "twice. Own. On ce."),
        (VALID_TOO, "Valid."),
        (VALID, "VALID. Own valid."),
        (TEST, "Test."),
    ]
    assert write(documents, tmp_path / "tokens.parquet") == [
        (TRAIN_TOO, "twice ."),
        (TRAIN_TOO, "once ."),
        (TRAIN, "own ."),
        (TRAIN, "on ce ."),
        (VALID_TOO, "valid ."),
        (VALID, "own valid ."),
        (TEST, "test ."),
    ]


def test_case_is_kept_on_request_but_makes_no_other_sentence(tmp_path: Path) -> None:
    documents = [(VALID, "SAME. Valid."), (TEST, "Test."), (TRAIN, "Same. same.")]
    rows = write(documents, tmp_path / "tokens.parquet", lowercase=False)
    assert rows == [(TRAIN, "Same ."), (VALID, "Valid ."), (TEST, "Test .")]


def test_every_sentence_is_kept_on_request(tmp_path: Path) -> None:
    documents = [(VALID, "Same."), (TEST, "Same."), (TRAIN, "Same. Same."), (TRAIN_TOO, "Same.")]
    rows = write(documents, tmp_path / "tokens.parquet", deduplicate=False)
    assert rows == [(document, "same .") for document in (TRAIN, TRAIN, TRAIN_TOO, VALID, TEST)]
    counts = count_words(tmp_path / "tokens.parquet", "train", tmp_path, 1, Bar())
    assert (counts.sentences, counts.unknown, counts.tokens) == (3, 0, 6)
    assert list(counts.by_word()) == [(".", 3), ("same", 3)]


@pytest.mark.parametrize("deduplicate", [True, False])
def test_neither_workers_nor_blocks_change_a_byte(
    deduplicate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "ROW_GROUP_SENTENCES", 16)
    documents = [(f"d{n}", f"Number {n % 70}. Also {n % 30}, it's\n\nHalf of {n}") for n in range(200)]
    files = []
    # Other processes once only, as they take seconds to begin and know nothing of `deduplicate`.
    for block_characters, workers in [(1 << 20, 1), (1, 1), (1000, 1), (700, 2 if deduplicate else 1)]:
        monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", block_characters)
        path = tmp_path / f"{block_characters} {workers}"
        write(documents, path, deduplicate=deduplicate, workers=workers)
        files.append(path.read_bytes())
    assert files[1:] == files[:1] * 3
    metadata = pq.read_metadata(tmp_path / "1 1")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes[:-1] == [16] * (metadata.num_rows // 16)
    assert metadata.num_rows == (300 if deduplicate else 600)


def test_blocks_do_not_show_where_parquet_ends_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Too many long words for one page and for Parquet's dictionary.
    documents = [(f"d{n}", " ".join(f"{50 * n + place:0300d}" for place in range(50))) for n in range(300)]
    for name, block_characters in [("a", 1 << 20), ("b", 100_000)]:
        monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", block_characters)
        write(documents, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "empty corpus: there is no document to tokenize"),
        (
            [(TRAIN, "A train.")],
            "the valid split of one distinct document is empty: no document with a sentence falls into it "
            r"\(sentences: 1 in train\); each split needs one of its own",
        ),
        (
            [(TRAIN, "A train.")] * 500 + [(VALID, "A valid. Two.")],
            r"the test split of two distinct documents, given 501 times, is empty: .* 1 in train and 2 in valid\)",
        ),
        ([(TRAIN, " \n"), (VALID, "A."), (TEST, "B.")], "the train split of 3 documents is empty: no document"),
        (
            [(TEST, "Same. Same."), (TRAIN, "Same."), (VALID, "Valid.")],
            r"the test split of 3 documents is empty: earlier splits hold all 2 of its sentences .*deduplicate",
        ),
    ],
)
def test_an_empty_split_is_refused(documents: list[tuple], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        write(documents, tmp_path / "tokens.parquet")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", 1)

    def failing() -> Iterator[tuple]:
        yield from SHARED
        raise InputError("no more")

    (tmp_path / "tokens.parquet").write_text("old")
    with pytest.raises(InputError, match="no more"):
        write(failing(), tmp_path / "tokens.parquet")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("tokens.parquet", "old")]


def test_a_corpus_that_comes_split_and_tokenized_is_taken_word_for_word(tmp_path: Path) -> None:
    same = "Same words , the.se <unk> N"
    documents = [
        Document(TEST, f"{same}\n\n{same}", "train", tokenized=True),
        Document("x", same, "valid", tokenized=True),
        Document("x", "Another one", "test", tokenized=True),
    ]
    write_tokens(documents, SPLITTER, TOKENIZER, TOKENIZE, tmp_path / "tokens.parquet", 1, Bar())
    rows = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    assert [row["split"] for row in rows] == ["train", "train", "valid", "test"]
    assert {row["document"] for row in rows} == {tokens.NO_DOCUMENT}
    assert read_documents_of(tmp_path / "tokens.parquet", "test") is None
    assert all(row["tokens"] == ["Same", "words", ",", "the.se", None, "N"] for row in rows[:3])
    assert count_words(tmp_path / "tokens.parquet", "train", tmp_path, 1, Bar()).unknown == 2


def test_a_corpus_that_comes_tokenized_only_is_split_lower_cased_and_deduplicated(tmp_path: Path) -> None:
    documents = [
        Document(TRAIN, "A b.c\nUnknown <unk>", tokenized=True),
        Document(VALID, "a B.C\nvalid", tokenized=True),
        Document(TEST, "unknown <UNK>\nUNKNOWN <unk>\nunknown", tokenized=True),
    ]
    write_tokens(documents, SPLITTER, TOKENIZER, TOKENIZE, tmp_path / "tokens.parquet", 1, Bar())
    rows = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    assert [(row["document"], row["tokens"]) for row in rows] == [
        (TRAIN, ["a", "b.c"]),
        (TRAIN, ["unknown", None]),
        (VALID, ["valid"]),
        (TEST, ["unknown"]),
    ]
    found = read_documents_of(tmp_path / "tokens.parquet", "train")
    assert found is not None
    assert found.tolist() == [0, 0]


def test_a_corpus_with_splits_of_its_own_keeps_them(tmp_path: Path) -> None:
    documents = [
        Document(TEST, "For training. Both.", "train"),
        Document(TRAIN, "Both. To validate.", "valid"),
        Document(TRAIN, "To test.", "test"),
    ]
    write_tokens(documents, SPLITTER, TOKENIZER, TOKENIZE, tmp_path / "tokens.parquet", 1, Bar())
    rows = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    assert [(row["split"], " ".join(row["tokens"])) for row in rows] == [
        ("train", "for training ."),
        ("train", "both ."),
        ("valid", "to validate ."),
        ("test", "to test ."),
    ]


def test_a_cluster_that_loses_a_worker_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "BLOCK_CHARACTERS", 4000)
    documents = [Document(f"d{n}", f"Number {n % 700} of Dr. {n % 30}. It's\n\nHalf of {n}") for n in range(5000)]
    write_tokens(documents, SPLITTER, TOKENIZER, TOKENIZE, tmp_path / "alone", 1, Bar())
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", str(cast(Any, cluster).scheduler_address))
        processes = cast("dict[str, int]", client.run(os.getpid))

        class KillingBar(CountingBar):
            def advance(self, amount: float = 1, note: str = "") -> None:
                if self.done <= 2500 < self.done + amount:
                    os.kill(min(processes.values()), signal.SIGKILL)
                super().advance(amount, note)

        bar = KillingBar()
        write_tokens(documents, SPLITTER, TOKENIZER, TOKENIZE, tmp_path / "cluster", 1, bar)
        assert bar.done == 5000
        client.wait_for_workers(2, timeout=60)
        assert min(processes.values()) not in cast("dict[str, int]", client.run(os.getpid)).values()
    assert (tmp_path / "cluster").read_bytes() == (tmp_path / "alone").read_bytes()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("今天天气很好。我们去公园散步。", "% of the characters are of a script without spaces"),
        ("<s> it is <unk> . </s>", "3 documents hold special tokens such as <unk> or </s>"),
        ("Nothing is odd about 今天.", None),
    ],
)
def test_what_makes_figures_mean_nothing_is_told(text: str, told: str | None, tmp_path: Path) -> None:
    documents, remarks = [(name, f"{text} {name}") for name in (TRAIN, VALID, TEST)], Remarks()
    write(documents, tmp_path / "tokens.parquet", remarks=remarks)
    assert [told in warning for warning in remarks.warnings if told] == [True] * bool(told)
    assert len(remarks.warnings) == bool(told)


def test_sentences_are_kept_or_were_there_before(tmp_path: Path) -> None:
    remarks = Remarks()
    documents = [(TRAIN, "Once. Twice. Twice."), (VALID, "Twice. Here."), (TEST, "There.")]
    kept = write(documents, tmp_path / "tokens.parquet", remarks=remarks)
    assert remarks.sums == {"sentences": {"kept": len(kept), "there before": 6 - len(kept)}} != {}
    assert len(kept) == 4
