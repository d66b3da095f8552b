"""Models that only count: what a network has to beat to be worth its training."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.scores import ScoreSums
from pipeline.evaluation.words import LIKELIEST, NOT_LOOKED, Words, part_of
from pipeline.text.encoded import EncodedSplit
from pipeline.text.unknown import with_unknown_words
from pipeline.text.vocabulary import START_ID

ORDERS = {"unigram": 1, "trigram": 3, "fivegram": 5}


class Unigram:
    """Words by their frequency alone, with one added to every count: p(w) = (c(w) + 1) / (tokens + C - 1).

    C is `vocabulary_size`; every id but SENTENCE_START's can be predicted.
    """

    def __init__(self, train: EncodedSplit, vocabulary_size: int) -> None:
        counts_C = np.bincount(train.ids, minlength=vocabulary_size) + 1
        counts_C[START_ID] = 0
        with np.errstate(divide="ignore"):  # nobody asks for SENTENCE_START
            self._nats_C = np.log(counts_C.sum()) - np.log(counts_C)
        self._rank_C = np.empty(vocabulary_size, np.int64)
        self._rank_C[np.argsort(-counts_C, kind="stable")] = np.arange(vocabulary_size)  # stable: ties by id

    def score(self, split: EncodedSplit) -> tuple[np.ndarray, np.ndarray]:
        """Nats and ranks of every predicted token of `split`, in order; both (tokens,)."""
        words_N = np.delete(split.ids, split.offsets[:-1])
        return self._nats_C[words_N], self._rank_C[words_N]


def baseline_scores(
    train: EncodedSplit, test: EncodedSplit, counts: Sequence[int]
) -> Iterator[tuple[str, Unigram | KneserNey, ScoreSums]]:
    """Fit each model of `ORDERS` to `train` and score `test` with it: its name, the model, and its sums.

    `counts` are those of the vocabulary, by id.
    """
    vocabulary_size = len(counts)
    train = with_unknown_words(train, counts, seed=0, epoch=0)
    sentence_N = np.repeat(np.arange(len(test)), test.lengths)
    target_N = np.delete(test.ids, test.offsets[:-1])
    for name, order in ORDERS.items():
        model = Unigram(train, vocabulary_size) if order == 1 else KneserNey(train, vocabulary_size, order)
        sums = ScoreSums(len(test), vocabulary_size)
        sums.add(sentence_N, target_N, *model.score(test))
        yield name, model, sums


def counted_words(model: KneserNey, split: EncodedSplit, chosen: np.ndarray, shown: np.ndarray) -> Words:
    """As `inside.word_scores`, for a model that counts: also how much of what is before a word training has with it."""
    part = part_of(split, chosen)
    nats_N = model.nats(part)
    target_N = np.delete(part.ids, part.offsets[:-1])
    sentence_N = np.repeat(chosen, part.lengths)
    likeliest_NK = np.full((part.tokens, LIKELIEST), NOT_LOOKED, np.int32)
    likeliest_nats_NK = np.zeros((part.tokens, LIKELIEST), np.float32)
    shown_N = np.isin(sentence_N, shown)
    if shown_N.any():
        ids_NK, nats_NK = model.likeliest(part, shown_N, LIKELIEST)
        columns = ids_NK.shape[1]
        likeliest_NK[shown_N, :columns], likeliest_nats_NK[shown_N, :columns] = ids_NK, nats_NK
    return Words(
        sentence_N.astype(np.int32),
        target_N.astype(np.int32),
        nats_N.astype(np.float32),
        likeliest_NK,
        likeliest_nats_NK,
        model.seen(part).astype(np.int8),
    )
