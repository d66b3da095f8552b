import math
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import kenlm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation import kneser_ney, ngrams
from pipeline.evaluation.arpa import write_arpa
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import SENTENCE_END, SENTENCE_START, UNKNOWN_TOKEN, Vocabulary

# Marks of the format, numbers, blanks that KenLM does not split at, and special tokens that are words here.
HOSTILE = ["\\data\\", "\\end\\", "\\2-grams:", "-1.5", "nan", "ngram", "a\u00a0b", "é\u2028", "\U0001f600", "\ufeff"]
HOSTILE += [SENTENCE_START, SENTENCE_END, UNKNOWN_TOKEN, "<unk", "s>", "<Unk>", "</S>", "'", '"', "\x1c", "\x85"]


def vocabulary_with(words: Sequence[str]) -> Vocabulary:
    return Vocabulary([SENTENCE_START, SENTENCE_END, *words, UNKNOWN_TOKEN], [1] * (len(words) + 3))


def kenlm_nats(path: Path, sentences: Sequence[Sequence[str]]) -> list[float]:
    """-ln p of each word of each sentence, and of its end, as KenLM reads the file."""
    model, nats = kenlm.Model(str(path)), []
    for sentence in sentences:
        state = kenlm.State()
        model.BeginSentenceWrite(state)
        for word in [*sentence, "</s>"]:
            after = kenlm.State()
            nats.append(-math.log(10) * model.BaseScore(state, word, after))
            state = after
    return nats


def check(path: Path, vocabulary: Vocabulary, train: list[list[str]], test: list[list[str]], order: int) -> None:
    split = EncodedSplit.of(map(vocabulary.sentence_ids, train))
    model = KneserNey(split, len(vocabulary), order)
    told: list[int] = []
    sizes = write_arpa(path, model, vocabulary, told.append)
    assert sum(told) == sum(sizes)
    ours = model.nats(EncodedSplit.of(map(vocabulary.sentence_ids, test)))
    assert np.abs(np.array(kenlm_nats(path, test)) - ours).max() / math.log(10) < 1e-5


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.sampled_from([*HOSTILE, "out"]), max_size=8), min_size=1, max_size=12),
    st.lists(st.lists(st.sampled_from([*HOSTILE, "out", "of"]), max_size=8), min_size=1, max_size=6),
    st.integers(2, 5),
    st.sampled_from([5, 10**6]),
)
def test_kenlm_scores_each_word_as_we_do(
    tmp_path_factory: pytest.TempPathFactory, train: list[list[str]], test: list[list[str]], order: int, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.arpa"
    with patch.object(ngrams, "BLOCK_TOKENS", block), patch.object(kneser_ney, "BLOCK_GRAMS", block):
        check(path, vocabulary_with(HOSTILE), train, test, order)


def test_a_text_like_a_language_s_too_and_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = [[f"w{number}" for number in chance.zipf(1.4, chance.integers(12)) % 75] for _ in range(900)]
    for name in ("one", "two"):
        check(tmp_path / name, vocabulary_with(words), texts[:700], texts[700:], 4)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    text = (tmp_path / "one").read_text()
    assert text.startswith("\\data\\\nngram 1=63\nngram 2=")
    assert "\n\n\\1-grams:\n-99\t<s>\t-" in text
    assert text.endswith("\n\n\\end\\\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("word", ["<s>", "</s>", "<unk>", "<UNK>", "a b", "\0", "x\x0b", "\f"])
def test_a_word_that_the_format_cannot_hold_is_one_clear_line(tmp_path: Path, word: str) -> None:
    vocabulary = vocabulary_with(["a", word])
    model = KneserNey(EncodedSplit.of([[0, 2, 3, 1]]), 5, 2)
    with pytest.raises(InputError, match=r"cannot hold the word '.*' \(id 3 of the vocabulary\)"):
        write_arpa(tmp_path / "a.arpa", model, vocabulary)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_kenlm_finds_the_published_perplexity_of_penn_treebank(shared_data: Path, tmp_path: Path) -> None:
    """What lmplz gives on the same files: 141.186."""
    train, test = (
        [line.split() for line in (shared_data / "ptb" / f"ptb.{split}.txt").read_text().splitlines()]
        for split in ("train", "test")
    )
    vocabulary = vocabulary_with(sorted({word for sentence in train for word in sentence} - {"<unk>"}))
    model = KneserNey(EncodedSplit.of(map(vocabulary.sentence_ids, train)), len(vocabulary), 5)
    write_arpa(tmp_path / "ptb.arpa", model, vocabulary)
    nats = kenlm_nats(tmp_path / "ptb.arpa", test)
    assert math.exp(np.mean(nats)) == pytest.approx(141.186, abs=5e-4)
