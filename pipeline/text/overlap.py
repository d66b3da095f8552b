"""Which test sentences share eight words in a row with the training split.

Splits are by document and no sentence is in two, but near copies are: boilerplate, quotations, a docstring with one
word changed. A model that remembers does well on these, which says little about text that it has not seen. So sentences
are told apart by whether they share an n-gram with the training split, as Brown et al. do (2020, "Language Models are
Few-Shot Learners", appendix C, with n from 8 to 13).

An 8-gram is eight tokens in a row of one sentence, as they are in data/tokens: words, not ids, which would make all
unknown words one. SENTENCE_START and SENTENCE_END do not count. A sentence of fewer tokens is one shorter n-gram: it
shares it with a training sentence that is the same from end to end, never with a part of a longer one.

Training sentences are streamed past the n-grams of the test split, which memory holds as 64-bit hashes.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.compute import SetLookupOptions, call_function

from pipeline.text.tokens import read_tokens

N = 8  # tokens of an n-gram
NO_WORDS = pa.array([], pa.string())

# Sums of products with random odd numbers, modulo 2^64: two n-grams of small numbers hardly ever agree (Lemire and
# Kaser 2014, "Strongly Universal String Hashing is Fast").
_FACTORS = np.random.default_rng(8).integers(0, 2**63, N, np.uint64) * np.uint64(2) + np.uint64(1)


def shares_with_training(tokens: Path) -> np.ndarray:
    """Whether each test sentence shares an 8-gram with the training split, (sentences,) bool, in their order.

    Raises:
        InputError: the file of tokens is missing or damaged, or holds other columns.
    """
    words = pa.concat_arrays([NO_WORDS, *(rows.flatten().unique() for rows in read_tokens(tokens, "test"))]).unique()
    grams, sentences = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    number = 0
    for rows in read_tokens(tokens, "test"):
        hashes, sentence = _grams(rows, words)
        grams.append(hashes)
        sentences.append(sentence + number)
        number += len(rows)
    known, place = np.unique(np.concatenate(grams), return_inverse=True)
    if not len(known):
        return np.zeros(number, bool)
    found = np.zeros(len(known), bool)
    for rows in read_tokens(tokens, "train"):
        hashes, _ = _grams(rows, words)
        nearest = np.searchsorted(known[:-1], hashes)  # the last of all where it is larger than that
        found[nearest[known[nearest] == hashes]] = True
    result = np.zeros(number, bool)
    result[np.concatenate(sentences)[found[place]]] = True
    return result


def _grams(rows: pa.ListArray, words: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The hash of every n-gram of (sentences,) rows, and the sentence that it is in; both (n-grams,).

    `words` are those of the test split: an n-gram with any other word is none of its n-grams, whichever that word is.
    """
    indices = call_function("index_in", [rows.flatten()], SetLookupOptions(words))
    # From 1, since 0 stands behind the last word of a sentence of fewer tokens.
    ids = indices.fill_null(len(words)).to_numpy().astype(np.uint64) + np.uint64(1)
    lengths = np.diff(rows.offsets.to_numpy())
    sentence = np.repeat(np.arange(len(rows)), lengths)
    end = np.cumsum(lengths)[sentence]
    place = np.arange(len(ids))
    first = np.flatnonzero((place + N <= end) | (place == end - lengths[sentence]))
    hashes = np.zeros(len(first), np.uint64)
    for offset, factor in enumerate(_FACTORS):
        is_inside = first + offset < end[first]
        hashes += np.where(is_inside, ids.take(first + offset, mode="clip"), 0) * factor
    return hashes, sentence[first]
