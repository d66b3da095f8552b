"""Unknown words to learn from, where there are none."""

import numpy as np

from pipeline.text.encoded import EncodedSplit
from pipeline.text.unknown import with_unknown_words

# SENTENCE_START, SENTENCE_END, a word that occurs twice, 200 that occur once, UNKNOWN_TOKEN
SPLIT = EncodedSplit.of([[0, 2, 2, *range(3, 203), 1]])
COUNTS = [0, 1, 2, *[1] * 200, 0]


def test_half_of_what_occurs_once_stands_for_it_another_half_each_epoch() -> None:
    epochs = [with_unknown_words(SPLIT, COUNTS, seed=1, epoch=epoch) for epoch in (1, 2, 1, *range(3, 12))]
    unknown = [split.ids == 203 for split in epochs]
    for split, replaced in zip(epochs, unknown, strict=True):
        assert 60 < replaced.sum() < 140
        assert set(np.flatnonzero(replaced)) <= set(range(3, 203))  # neither ends nor the frequent word
        np.testing.assert_array_equal(split.ids[~replaced], SPLIT.ids[~replaced])
        assert split.tokens == SPLIT.tokens
    assert (unknown[0] != unknown[1]).any()
    np.testing.assert_array_equal(unknown[0], unknown[2])
    assert (SPLIT.ids < 203).all()


def test_a_text_that_has_unknown_words_stays_as_it_is() -> None:
    assert with_unknown_words(SPLIT, [*COUNTS[:-1], 1], seed=1, epoch=1) is SPLIT
