"""Unknown words to learn from, where the training text has none.

A vocabulary that holds every word of its training text leaves UNKNOWN_TOKEN without a single example, and a model that
never saw it gives it next to no probability: new text, where every tenth word is unknown, then costs more than all
other words together. A word that occurs once was itself unknown before it occurred, so half of these stand for the
words to come, each epoch another half (Chen and Goodman 1998 and Good 1953 estimate what is unseen by what is seen
once, too). Networks and n-grams are given the same.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID

SHARE = 0.5  # of the words that occur once


def with_unknown_words(split: EncodedSplit, counts: Sequence[int], seed: int, epoch: int) -> EncodedSplit:
    """A training split with some of its rare words as UNKNOWN_TOKEN; itself where it has unknown words.

    `counts` are those of the vocabulary, by id, so UNKNOWN_TOKEN's is the last; which words, (seed, epoch) decides.
    """
    if counts[-1]:
        return split
    rare_C = np.asarray(counts) == 1
    rare_C[: END_ID + 1] = False  # the frame of a sentence is no word
    ids = np.array(split.ids)
    at = np.flatnonzero(rare_C[ids])
    ids[at[np.random.default_rng([seed, epoch]).random(len(at)) < SHARE]] = len(counts) - 1
    return EncodedSplit(ids, split.offsets)
