"""Tokens -> ids: two arrays a split, laid out so that training reads them without copying or parsing.

`ids.npy` holds the ids of all sentences end to end, each with SENTENCE_START first and SENTENCE_END last, as uint16
while the vocabulary has at most 65,536 tokens, else int32. `offsets.npy` (int64) has one entry more than there are
sentences: sentence i is `s = ids[offsets[i]:offsets[i + 1]]`, its input x `s[:-1]`, and y, what is predicted, `s[1:]`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.files import atomic_path
from pipeline.progress import Bar
from pipeline.text.splits import SPLITS, Split
from pipeline.text.tokens import read_tokens
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary

ADVICE = "delete it and run `dvc repro encode`"
CHECKED_IDS = 1 << 24  # ids looked at a time when a file is checked


@dataclass(frozen=True)
class EncodedSplit:
    """The sentences of one split, as ids.

    Attributes:
        ids: (ids,), uint16 or int32; see the head of this module.
        offsets: (sentences + 1,), int64.
    """

    ids: np.ndarray
    offsets: np.ndarray

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


def id_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where every id fits, else int32."""
    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.int32)


def encode_tokens(tokens: Path, vocabulary: Vocabulary, folder: Path, bar: Bar) -> None:
    """Write `folder/SPLIT/ids.npy` and `offsets.npy` for each split, reading the tokens in blocks.

    Args:
        tokens: what the stage `tokenize` wrote.
        vocabulary: gives the ids.
        folder: where the splits' folders go.
        bar: advanced by the number of sentences.

    Raises:
        InputError: the tokens cannot be read.
    """
    for split in SPLITS:
        sentences, ids = _sizes(tokens, split)
        with (
            _npy(folder / split / "ids.npy", id_dtype(len(vocabulary)), ids) as ids_file,
            _npy(folder / split / "offsets.npy", np.dtype(np.int64), sentences + 1) as offsets_file,
        ):
            end = 0
            offsets_file.write(np.zeros(1, np.int64).tobytes())
            for rows in read_tokens(tokens, split):
                encoded, ends = _encode(rows, vocabulary)
                ids_file.write(encoded.tobytes())
                offsets_file.write((ends + end).tobytes())
                end += len(encoded)
                bar.advance(len(rows))


def _sizes(tokens: Path, split: Split) -> tuple[int, int]:
    """Sentences and ids of one split."""
    sentences = ids = 0
    for rows in read_tokens(tokens, split):
        sentences += len(rows)
        ids += len(rows.flatten()) + 2 * len(rows)
    return sentences, ids


def _encode(rows: pa.ListArray, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the sentences `rows`, START and END included, and where each ends: (ids,) and (rows,) int64."""
    dictionary = rows.flatten().dictionary_encode()
    known = np.array(vocabulary.encode(dictionary.dictionary.to_pylist()), id_dtype(len(vocabulary)))
    ends = np.cumsum(np.diff(rows.offsets.to_numpy()) + 2, dtype=np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
    encoded = np.empty(len(dictionary) + 2 * len(rows), id_dtype(len(vocabulary)))
    is_word = np.ones(len(encoded), bool)
    encoded[starts], encoded[ends - 1] = START_ID, END_ID
    is_word[starts] = is_word[ends - 1] = False
    encoded[is_word] = known[dictionary.indices.to_numpy()]
    return encoded, ends


@contextmanager
def _npy(path: Path, dtype: np.dtype, length: int) -> Iterator[BinaryIO]:
    """A file in NumPy's format whose `length` values the caller writes; whole or not at all.

    Not a memory map opened for writing: on a full disk that ends the process with a bus error.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def load_split(folder: Path, vocabulary_size: int | None = None) -> EncodedSplit:
    """Open one split as memory maps, which read only what is used.

    Args:
        folder: holds `ids.npy` and `offsets.npy`.
        vocabulary_size: C; an id that is not below it is an error.

    Raises:
        InputError: a file is missing, cut off or damaged, or the two do not belong together.
    """
    ids = _load(folder / "ids.npy", (np.dtype(np.uint16), np.dtype(np.int32)))
    offsets = _load(folder / "offsets.npy", (np.dtype(np.int64),))
    _check_offsets(folder, ids, offsets)
    _check_ids(folder, ids, offsets, vocabulary_size)
    return EncodedSplit(ids, offsets)


def _load(path: Path, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `dvc repro encode`") from None
    except Exception as error:  # NumPy's parser raises nearly anything for a damaged header
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); {ADVICE}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype not in dtypes:
        kind = f"{array.ndim} dimensions of {array.dtype}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{path} must hold one dimension of {' or '.join(map(str, dtypes))}, not {kind}; {ADVICE}")
    return array


def _check_offsets(folder: Path, ids: np.ndarray, offsets: np.ndarray) -> None:
    path = folder / "offsets.npy"
    if len(offsets) < 2 or offsets[0] != 0:
        raise InputError(f"{path} must hold 0 and then the end of at least one sentence; {ADVICE}")
    short = np.flatnonzero(np.diff(offsets) < 2)
    if len(short):
        raise InputError(
            f"{path}: sentence {short[0]} would end at {offsets[short[0] + 1]}, "
            f"less than two ids after its start at {offsets[short[0]]}; {ADVICE}"
        )
    if offsets[-1] != len(ids):
        raise InputError(f"{path}: the last sentence ends at {offsets[-1]}, but ids.npy has {len(ids)} ids; {ADVICE}")


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
            raise InputError(f"{path}: id {block[place]} at {first + place} is outside the vocabulary{size}; {ADVICE}")
    sentences = len(offsets) - 1
    framed = (ids[offsets[:-1]] == START_ID).all() and (ids[offsets[1:] - 1] == END_ID).all()
    if not framed or starts != sentences or ends != sentences:
        raise InputError(
            f"{path}: not every sentence begins with its only {START_ID} and ends with its only {END_ID}; {ADVICE}"
        )
