"""Encoded splits: two arrays each, laid out so that training reads them without copying or parsing.

`ids.npy` holds the ids of all sentences end to end, each with SENTENCE_START first and SENTENCE_END last, as uint16
while the vocabulary has at most 65,536 tokens, else int32. `offsets.npy` (int64) has one entry more than there are
sentences: sentence i is `s = ids[offsets[i]:offsets[i + 1]]`, its input x `s[:-1]`, and y, what is predicted, `s[1:]`.

The test split has two more. `documents.npy` (int32) holds for each sentence the index of its document, which is what
intervals draw; it is empty where the corpus has no documents. `seen.npy` (bool) says of each sentence whether it shares
an 8-gram with the training split (see overlap.py). Training reads neither, and so does not depend on them.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line
from pipeline.text.vocabulary import END_ID, START_ID

AGAIN = "delete it and run `dvc repro encode`"
CHECKED_IDS = 1 << 24  # ids looked at a time when a file is checked


@dataclass(frozen=True)
class EncodedSplit:
    """The sentences of one split, as ids; see the head of this module."""

    ids: np.ndarray  # (ids,), uint16 or int32
    offsets: np.ndarray  # (sentences + 1,), int64

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int]]) -> "EncodedSplit":
        """A split in memory, of sentences that begin with START_ID and end with END_ID."""
        ids, offsets = array("i"), array("q", [0])
        for sentence in sentences:
            ids.extend(sentence)
            offsets.append(len(ids))
        return cls(np.array(ids, np.int32), np.array(offsets, np.int64))

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(sentences,), int64: predicted tokens of each sentence, SENTENCE_END counted, SENTENCE_START not."""
        return np.diff(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Predicted tokens of all sentences."""
        return len(self.ids) - len(self)

    def count(self, id: int) -> np.ndarray:
        """(sentences,), int64: how often `id` is in each sentence."""
        return np.add.reduceat(self.ids == id, self.offsets[:-1], dtype=np.int64)


def load_split(folder: Path, vocabulary_size: int | None = None) -> EncodedSplit:
    """Open `ids.npy` and `offsets.npy` of one split as memory maps, which read only what is used.

    Every id must be below C, the `vocabulary_size`, where that is given.

    Raises:
        InputError: a file is missing, cut off or damaged, or the two do not belong together.
    """
    ids = _load(folder / "ids.npy", (np.dtype(np.uint16), np.dtype(np.int32)))
    offsets = _load(folder / "offsets.npy", (np.dtype(np.int64),))
    _check_offsets(folder, ids, offsets)
    _check_ids(folder, ids, offsets, vocabulary_size)
    return EncodedSplit(ids, offsets)


def load_documents(folder: Path, sentences: int) -> np.ndarray | None:
    """The index of each sentence's document, (sentences,) int32, of a split of so many; None: it has no documents.

    Raises:
        InputError: `documents.npy` is missing, cut off or damaged, or does not belong to this split.
    """
    path = folder / "documents.npy"
    documents = _load(path, (np.dtype(np.int32),))
    if not len(documents):
        return None
    _check_length(path, documents, sentences)
    found = np.unique(documents)
    if found[0] != 0 or found[-1] != len(found) - 1:
        raise InputError(f"{path} must hold indices from 0, none left out; {AGAIN}")
    return documents


def load_seen(folder: Path, sentences: int) -> np.ndarray:
    """Whether each of so many sentences of a split shares an 8-gram with the training split, (sentences,) bool.

    Raises:
        InputError: `seen.npy` is missing, cut off or damaged, or does not belong to this split.
    """
    path = folder / "seen.npy"
    seen = _load(path, (np.dtype(bool),))
    _check_length(path, seen, sentences)
    if (seen.view(np.uint8) > 1).any():
        raise InputError(f"{path} holds bytes that are neither true nor false; {AGAIN}")
    return seen


def _check_length(path: Path, of_sentences: np.ndarray, sentences: int) -> None:
    if len(of_sentences) != sentences:
        raise InputError(f"{path} holds {len(of_sentences)} sentences, but offsets.npy has {sentences}; {AGAIN}")


def _load(path: Path, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `dvc repro encode`") from None
    except Exception as error:  # NumPy's parser raises nearly anything for a damaged header
        if is_of_the_machine(error):
            raise
        raise InputError(f"{path} is damaged ({one_line(error)}); {AGAIN}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype not in dtypes:
        kind = f"{array.ndim} dimensions of {array.dtype}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{path} must hold one dimension of {' or '.join(map(str, dtypes))}, not {kind}; {AGAIN}")
    return array


def _check_offsets(folder: Path, ids: np.ndarray, offsets: np.ndarray) -> None:
    path = folder / "offsets.npy"
    if len(offsets) < 2 or offsets[0] != 0:
        raise InputError(f"{path} must hold 0 and then the end of at least one sentence; {AGAIN}")
    short = np.flatnonzero(np.diff(offsets) < 2)
    if len(short):
        raise InputError(
            f"{path}: sentence {short[0]} would end at {offsets[short[0] + 1]}, "
            f"less than two ids after its start at {offsets[short[0]]}; {AGAIN}"
        )
    if offsets[-1] != len(ids):
        raise InputError(f"{path}: the last sentence ends at {offsets[-1]}, but ids.npy has {len(ids)} ids; {AGAIN}")


def _check_ids(folder: Path, ids: np.ndarray, offsets: np.ndarray, vocabulary_size: int | None) -> None:
    path = folder / "ids.npy"
    starts = ends = 0
    for first in range(0, len(ids), CHECKED_IDS):
        block = ids[first : first + CHECKED_IDS]
        starts += np.count_nonzero(block == START_ID)
        ends += np.count_nonzero(block == END_ID)
        outside = (block < 0) if vocabulary_size is None else (block < 0) | (block >= vocabulary_size)
        if outside.any():
            place = int(outside.argmax())
            size = "" if vocabulary_size is None else f" of {vocabulary_size} tokens"
            raise InputError(f"{path}: id {block[place]} at {first + place} is outside the vocabulary{size}; {AGAIN}")
    sentences = len(offsets) - 1
    framed = (ids[offsets[:-1]] == START_ID).all() and (ids[offsets[1:] - 1] == END_ID).all()
    if not framed or starts != sentences or ends != sentences:
        raise InputError(
            f"{path} does not fit offsets.npy: not every sentence begins with its only {START_ID} and ends with "
            f"its only {END_ID}; {AGAIN}"
        )
