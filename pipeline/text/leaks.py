"""Which test sentences a model may have been trained on: those that its training split held, word by word.

A document that was renamed or edited, a row that moved or other shares of the splits bring sentences of yesterday's
training split into today's test split, and whoever learned them by heart wins there.
"""

import hashlib
import heapq
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.compute import SetLookupOptions, call_function

from pipeline.text.splits import Split
from pipeline.text.tokens import read_tokens

SAMPLED = 256  # sentences: shares are right to 3 percentage points, and 2 kB hold them


def seen_in_training(tokens: Path, training: Iterable[Path]) -> np.ndarray:
    """Which test sentences of a file of tokens are in the training split of one of the others too.

    As in deduplication, sentences are equal whatever the case of their letters.

    Returns:
        bool (sentences,), in the order of `read_tokens`.

    Raises:
        InputError: a file is missing or damaged, or holds other columns.
    """
    test = pa.concat_arrays([pa.array([], pa.large_string()), *_lines(tokens, "test")])
    seen = np.zeros(len(test), bool)
    for path in training:
        for lines in _lines(path, "train"):
            # Only the test split is held in memory.
            seen |= call_function("is_in", [test], SetLookupOptions(lines)).to_numpy(zero_copy_only=False)
    return seen


def split_sample(tokens: Path) -> list[str]:
    """The test sentences of a file of tokens, in whatever order and of whatever documents, or a sample of `SAMPLED`.

    A sentence is a hash of eight characters, and the sample are the smallest ones, sorted. So what two splits share,
    their samples share: one of two small hashes is in both or in neither, as the sentences are (Broder 1997, "On the
    resemblance and containment of documents").

    Raises:
        InputError: the file is missing or damaged, or holds other columns.
    """
    lines = (line for lines in _lines(tokens, "test") for line in lines.to_pylist())
    hashes = {b64encode(hashlib.blake2b(line.encode(), digest_size=6).digest()).decode() for line in lines}
    return heapq.nsmallest(SAMPLED, hashes)


def _lines(tokens: Path, split: Split) -> Iterator[pa.Array]:
    """The sentences of a split as text, in blocks: different sentences are different lines."""
    for rows in read_tokens(tokens, split):
        # A word that the corpus marks as unknown is empty here, as no token is; and none holds a space.
        words = pa.ListArray.from_arrays(rows.offsets, rows.values.fill_null(""))
        joined = call_function("binary_join", [words, " "])
        yield call_function("utf8_lower", [joined]).cast(pa.large_string())
