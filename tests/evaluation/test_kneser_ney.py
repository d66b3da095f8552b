from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation import kneser_ney
from pipeline.evaluation.kneser_ney import FALLBACK_DISCOUNTS, KneserNey
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID

Sentence = Sequence[int]


def encoded(sentences: Sequence[Sentence]) -> EncodedSplit:
    framed = [[START_ID, *sentence, END_ID] for sentence in sentences]
    return EncodedSplit(np.concatenate(framed).astype(np.int32), np.cumsum([0, *map(len, framed)]))


class Textbook:
    """The formulas of Chen and Goodman (1998), word by word, with dictionaries."""

    def __init__(self, sentences: Sequence[Sentence], size: int, order: int) -> None:
        self.words = [word for word in range(size) if word != START_ID]
        occurrences: Counter[tuple[int, ...]] = Counter(
            tuple(text[end - k : end])
            for text in ([START_ID, *sentence, END_ID] for sentence in sentences)
            for end in range(2, len(text) + 1)
            for k in range(1, min(order, end) + 1)
        )
        before: Counter[tuple[int, ...]] = Counter(gram[1:] for gram in occurrences if len(gram) > 1)
        self.c: dict[tuple[int, ...], int] = {
            gram: count if len(gram) == order or gram[0] == START_ID else before[gram]
            for gram, count in occurrences.items()
        }
        self.discount = {k: self.discounts([c for g, c in self.c.items() if len(g) == k]) for k in range(1, order + 1)}
        self.order = order

    @staticmethod
    def discounts(counts: list[int]) -> tuple[float, ...]:
        n = Counter(counts)
        if 0 in (n[1], n[2], n[3]):
            return FALLBACK_DISCOUNTS
        y = n[1] / (n[1] + 2 * n[2])
        found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        return found if all(0 < d <= i for i, d in zip((1, 2, 3), found, strict=True)) else FALLBACK_DISCOUNTS

    def p(self, word: int, history: tuple[int, ...]) -> float:
        history = history[len(history) - min(len(history), self.order - 1) :]
        lower = self.p(word, history[1:]) if history else 1 / len(self.words)
        total = sum(self.c.get((*history, v), 0) for v in self.words)
        if not total:
            return lower
        d1, d2, d3 = self.discount[len(history) + 1]
        d = {0: 0.0, 1: d1, 2: d2}
        own = self.c.get((*history, word), 0)
        left = sum(d.get(self.c.get((*history, v), 0), d3) for v in self.words)
        return (own - d.get(own, d3)) / total + left / total * lower


def check(train: Sequence[Sentence], test: Sequence[Sentence], size: int, order: int) -> None:
    """Nats equal the textbook's, and ranks the number of words that it holds to be more probable."""
    textbook = Textbook(train, size, order)
    model, split = KneserNey(encoded(train), size, order), encoded(test)
    nats, ranks = model.score(split)
    assert np.array_equal(model.nats(split), nats)
    seen, (best, best_nats) = model.seen(split), model.likeliest(split, np.ones(len(nats), bool), 3)
    at = 0
    for sentence in test:
        for end, word in enumerate([*sentence, END_ID]):
            history = (START_ID, *sentence[:end])
            p = {v: textbook.p(v, history) for v in textbook.words}
            assert sum(p.values()) == pytest.approx(1)
            assert nats[at] == pytest.approx(-log(p[word]), abs=1e-9)
            surely = sum(p[v] > p[word] * (1 + 1e-9) for v in p)
            # Equals in the order of ids; what rounding alone tells apart may stand either way.
            equal = sum(abs(p[v] / p[word] - 1) <= 1e-9 for v in p if v != word)
            assert surely <= ranks[at] <= surely + equal
            longest = [(*history[len(history) - n :], word) for n in range(min(order, len(history) + 1))]
            assert seen[at] == max([1, *(len(gram) for gram in longest if gram in textbook.c)])
            assert best_nats[at] == pytest.approx(sorted(-log(value) for value in p.values())[:3], abs=1e-9)
            assert [-log(p[v]) for v in best[at]] == pytest.approx(best_nats[at].tolist(), abs=1e-9)
            assert len(set(best[at].tolist())) == 3
            at += 1
    assert at == len(nats) == len(ranks)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int, int]:
    size = draw(st.integers(4, 8))
    sentences = st.lists(st.lists(st.integers(2, size - 1), max_size=6), min_size=1, max_size=12)
    return draw(sentences), draw(sentences), size, draw(st.integers(2, 5))


@settings(deadline=None, max_examples=150)
@given(corpora())
def test_equals_the_textbook(corpus: tuple[list[list[int]], list[list[int]], int, int]) -> None:
    check(*corpus)


def zipf(sentences: int, size: int, seed: int) -> list[list[int]]:
    """Sentences whose words fall off in frequency and lean on the word before, as text does."""
    chance = np.random.default_rng(seed)
    share = 1 / np.arange(1, size - 1)
    result = []
    for _ in range(sentences):
        words = [int(chance.choice(size - 2, p=share / share.sum()))]
        for _ in range(int(chance.integers(0, 9))):
            words.append((words[-1] * 3 + int(chance.geometric(0.4))) % (size - 2))
        result.append([word + 2 for word in words])
    return result


@pytest.mark.parametrize("order", [2, 3, 5])
def test_equals_the_textbook_where_the_discounts_are_the_formulas(order: int) -> None:
    train = zipf(400, 60, 1)
    assert FALLBACK_DISCOUNTS not in list(Textbook(train, 60, order).discount.values())[1:]
    check(train, zipf(15, 60, 2), 60, order)


def test_ranks_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model, test = KneserNey(encoded(zipf(300, 60, 1)), 60, 3), encoded(zipf(50, 60, 2))
    whole = model.score(test)[1]
    monkeypatch.setattr(kneser_ney, "BLOCK_PAIRS", 7)
    assert np.array_equal(model.score(test)[1], whole)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_the_words_after_any_history_share_exactly_one(order: int) -> None:
    size = 60
    model = KneserNey(encoded(zipf(300, size, 1)), size, order)
    for history in ([], [2], [5, 9], [5, 17, 53, 44], [59, 59, 59, 59, 59, 59]):
        # SENTENCE_END ends a sentence after each history, so it is scored after the history alone.
        following = encoded([[*history, word] for word in range(2, size)] + [history])
        nats, ranks = model.score(following)
        of_sentence = np.split(nats, np.cumsum(following.lengths)[:-1])
        p = [np.exp(-sentence[len(history)]) for sentence in of_sentence]
        assert sum(p) == pytest.approx(1, abs=1e-12)
        place = np.split(ranks, np.cumsum(following.lengths)[:-1])
        assert sorted(sentence[len(history)] for sentence in place) == list(range(size - 1))


def test_equally_probable_words_come_in_the_order_of_their_ids() -> None:
    # 3 and 4 are alike to the model, and so are 2 and 5, which it never saw.
    _, ranks = KneserNey(encoded([[3], [4]]), 6, 3).score(encoded([[3], [4], [2], [5]]))
    assert ranks[::2].tolist() == [0, 1, 3, 4]


def test_start_counts_as_a_word_before_and_as_a_context() -> None:
    # Order 2: "2" was seen after START and after 3, "3" after START alone, "4" after 2 alone, END after 4 alone.
    textbook = Textbook([[2, 4], [3, 2, 4]], 6, 2)
    assert {word: textbook.c[(word,)] for word in (2, 3, 4, END_ID)} == {2: 2, 3: 1, 4: 1, END_ID: 1}
    assert textbook.c[(START_ID, 2)] == 1
    check([[2, 4], [3, 2, 4]], [[2, 4], [4, 3]], 6, 2)
    # Order 3: "START 2" is no highest-order n-gram, yet counts its two occurrences: nothing stands before START.
    assert Textbook([[2], [2, 4]], 6, 3).c[(START_ID, 2)] == 2
    check([[2], [2, 4]], [[2, 4], [4, 2]], 6, 3)


def test_a_large_vocabulary_does_not_overflow() -> None:
    size = 100_000  # five ids of this size do not fit 64 bits together
    train = [[99_990, 99_991, 99_992, 99_993, 99_994], [99_991, 99_992, 99_993, 99_995]]
    test = [99_990, 99_991, 99_992, 99_993, 99_995]
    textbook = Textbook(train, size, 5)
    nats, _ = KneserNey(encoded(train), size, 5).score(encoded([test]))
    assert nats[4] == pytest.approx(-log(textbook.p(test[4], (START_ID, *test[:4]))))


def test_published_perplexity_of_penn_treebank(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mikolov, "Statistical language models based on neural networks" (2012), table 4.1: KN5 141.2."""
    monkeypatch.setattr(KneserNey, "_ranks", lambda *_: None)  # most of the time, and nothing of a perplexity
    train, test = (
        [line.split() for line in (shared_data / "ptb" / f"ptb.{split}.txt").read_text().splitlines()]
        for split in ("train", "test")
    )
    types = sorted({word for sentence in train for word in sentence})
    ids = {word: id_ for id_, word in enumerate(types, start=2)}
    splits = [encoded([[ids[word] for word in sentence] for sentence in split]) for split in (train, test)]
    # C counts SENTENCE_START, SENTENCE_END and an UNKNOWN_TOKEN, which PTB spells <unk> and has among its types.
    nats, _ = KneserNey(splits[0], len(types) + 2, 5).score(splits[1])
    assert np.exp(nats.mean()) == pytest.approx(141.2, abs=0.1)
