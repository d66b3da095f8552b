"""Tokens -> ids: the files that encoded.py describes and reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.runtime.files import atomic_path
from pipeline.runtime.parallel import ordered_map
from pipeline.runtime.progress import Bar
from pipeline.text.splits import SPLITS, Split
from pipeline.text.tokens import read_tokens
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary


def id_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where every id fits, else int32."""
    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.int32)


def encode_tokens(tokens: Path, vocabulary: Vocabulary, folder: Path, workers: int, bar: Bar) -> None:
    """Write `folder/SPLIT/ids.npy` and `offsets.npy` for each split, reading the tokens in blocks.

    Args:
        tokens: what the stage `tokenize` wrote.
        vocabulary: gives the ids.
        folder: where the splits' folders go.
        workers: number of processes; the bytes do not depend on it.
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
            make = partial(_BlockEncoder, vocabulary)
            for encoded, ends in ordered_map(make, read_tokens(tokens, split), workers):
                ids_file.write(encoded.tobytes())
                offsets_file.write((ends + end).tobytes())
                end += len(encoded)
                bar.advance(len(ends))


def _sizes(tokens: Path, split: Split) -> tuple[int, int]:
    """Sentences and ids of one split."""
    sentences = ids = 0
    for rows in read_tokens(tokens, split):
        sentences += len(rows)
        ids += len(rows.flatten()) + 2 * len(rows)
    return sentences, ids


class _BlockEncoder:
    """What a worker does: sentences in, out come their ids, START and END included, and where each ends."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._dtype = id_dtype(len(vocabulary))

    def __call__(self, rows: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
        """For (sentences,) rows: (ids,) and (sentences,) int64."""
        dictionary = rows.flatten().dictionary_encode()
        # A word that is null is one of which the corpus itself says that it is unknown.
        known = np.array([*self._vocabulary.encode(dictionary.dictionary.to_pylist()), self._vocabulary.unknown_id])
        places = dictionary.indices.fill_null(len(known) - 1).to_numpy()
        ends = np.cumsum(np.diff(rows.offsets.to_numpy()) + 2, dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
        encoded = np.empty(len(dictionary) + 2 * len(rows), self._dtype)
        is_word = np.ones(len(encoded), bool)
        encoded[starts], encoded[ends - 1] = START_ID, END_ID
        is_word[starts] = is_word[ends - 1] = False
        encoded[is_word] = known.astype(self._dtype)[places]
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
