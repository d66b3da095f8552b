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
from pipeline.runtime.remarks import Remarks
from pipeline.text.overlap import shares_with_training
from pipeline.text.splits import SPLITS
from pipeline.text.tokens import read_documents_of, read_tokens
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary

MANY_UNKNOWN = 0.2  # share of unknown words above which figures say little; Brown has 0.09, Penn Treebank 0.06


def id_dtype(vocabulary_size: int) -> np.dtype:
    """uint16 where every id fits, else int32."""
    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.int32)


def encode_tokens(
    tokens: Path, vocabulary: Vocabulary, folder: Path, workers: int, bar: Bar, remarks: Remarks | None = None
) -> None:
    """Write `folder/SPLIT/ids.npy` and `offsets.npy` for each split, reading what `tokenize` wrote in blocks.

    Of the test split `documents.npy` and `seen.npy` too.

    The bytes do not depend on `workers`, the number of processes; `bar` advances by sentences.
    How many tokens of each split are unknown is counted in `remarks`.

    Raises:
        InputError: the tokens cannot be read.
    """
    remarks = remarks or Remarks()
    dtype = id_dtype(len(vocabulary))
    encode = partial(_encode_block, vocabulary, dtype)
    for split in SPLITS:
        sentences = words = 0
        for rows in read_tokens(tokens, split):
            sentences += len(rows)
            words += len(rows.flatten())
        with (
            _npy(folder / split / "ids.npy", dtype, words + 2 * sentences) as ids_file,
            _npy(folder / split / "offsets.npy", np.dtype(np.int64), sentences + 1) as offsets_file,
        ):
            end = 0
            offsets_file.write(np.zeros(1, np.int64).tobytes())
            for encoded, ends in ordered_map(encode, read_tokens(tokens, split), workers):
                ids_file.write(encoded.tobytes())
                offsets_file.write((ends + end).tobytes())
                end += len(encoded)
                unknown = int((encoded == vocabulary.unknown_id).sum())
                remarks.count(f"tokens of {split}", "known", len(encoded) - 2 * len(ends) - unknown)
                remarks.count(f"tokens of {split}", "unknown", unknown)
                bar.advance(len(ends))
    of_test = remarks.sums["tokens of test"]
    if of_test["unknown"] > MANY_UNKNOWN * of_test.total():
        remarks.warn(
            f"{of_test['unknown'] / of_test.total():.0%} of the tokens of the test split are words that the vocabulary "
            "does not have, so figures say little of them; use more text or a larger vocabulary.size, or cut words "
            "into smaller units"
        )
    found = read_documents_of(tokens, "test")
    documents = np.empty(0, np.int32) if found is None else found
    for name, values in (("documents", documents), ("seen", shares_with_training(tokens))):
        with _npy(folder / "test" / f"{name}.npy", values.dtype, len(values)) as file:
            file.write(values.tobytes())


def _encode_block(vocabulary: Vocabulary, dtype: np.dtype, rows: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """What a worker does with (sentences,) rows: (ids,), START and END included, and (sentences,) int64, their ends."""
    dictionary = rows.flatten().dictionary_encode()
    # A null is a word that the corpus itself marks as unknown.
    known = np.array([*vocabulary.encode(dictionary.dictionary.to_pylist()), vocabulary.unknown_id], dtype)
    places = dictionary.indices.fill_null(len(known) - 1).to_numpy()
    ends = np.cumsum(np.diff(rows.offsets.to_numpy()) + 2, dtype=np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
    encoded = np.empty(len(dictionary) + 2 * len(rows), dtype)
    is_word = np.ones(len(encoded), bool)
    encoded[starts], encoded[ends - 1] = START_ID, END_ID
    is_word[starts] = is_word[ends - 1] = False
    encoded[is_word] = known[places]
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
