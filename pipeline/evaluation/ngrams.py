"""The different n-grams of a text and their counts, in bounded memory: what does not fit a block of text is on disk.

An n-gram's index is its place among all of its order, sorted by its words. Its key is the index of its first n - 1
words, times C, plus its last word: so keys fit 64 bits at every order, and rise as the n-grams do. Each order is an
external sort (Knuth, "The Art of Computer Programming", volume 3, section 5.4; for n-grams Heafield et al., "Scalable
modified Kneser-Ney language model estimation", 2013):

1. Each block of the text becomes a run: its different keys, sorted, and which of them ends at each place.
2. Runs are merged, one range of keys after another. What index each key of a run got is kept beside the run, which
   gives the block the keys of the next order.

Which n-grams go to which block changes no number. Files have no name and vanish with the process; they lie where
`TMPDIR` says.

Arrays end in their size: C vocabulary, G n-grams of one order, N places of a block, P of them where an n-gram ends.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pipeline.text.encoded import EncodedSplit

BLOCK_TOKENS = 1 << 22  # and n-grams merged at a time; what is no longer is counted in memory
MOST_RUNS = 64  # of an order, each with five open files
SAMPLED_KEYS = 1024  # keys of a block's worth of n-grams among which ranges are chosen


class Column:
    """An array that grows at its end, in memory or in a file without a name."""

    def __init__(self, dtype: type | np.dtype, on_disk: bool) -> None:
        self.dtype = np.dtype(dtype)
        self._length = 0
        self._parts: list[np.ndarray] = []
        self._file = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 - it lives as long as the column

    def __len__(self) -> int:
        return self._length

    def append(self, part: np.ndarray) -> None:
        """Put `part`, one dimension, at the end."""
        part = np.ascontiguousarray(part, self.dtype)
        self._length += len(part)
        if self._file:
            try:
                self._file.write(part.data)
                self._file.flush()
            except OSError as error:
                error.filename = tempfile.gettempdir()  # the file has no name that could say which disk is full
                raise
        else:
            self._parts.append(part)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The elements from `start` up to `stop`; nobody may change them."""
        if not self._file:
            return self.whole()[start:stop]
        size = self.dtype.itemsize
        return np.frombuffer(os.pread(self._file.fileno(), (stop - start) * size, start * size), self.dtype)

    def whole(self) -> np.ndarray:
        """All elements; those on disk are mapped, so only what is looked at is read."""
        if self._file and self._length:
            return np.memmap(self._file, self.dtype, "r").view(np.ndarray)
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.empty(0, self.dtype), *self._parts])]
        return self._parts[0]


@dataclass(frozen=True)
class Grams:
    """The n-grams of one order, by rising key; see the head of this module.

    Of the highest order `counts` is how often they occur; of a lower one how many different words come before them,
    but how often they occur if they begin with SENTENCE_START, as nothing comes before that.
    """

    keys: Column
    counts: Column
    suffix: Column  # index, one order below, of the n-gram without its first word


@dataclass(frozen=True)
class _Run:
    """The n-grams of one order in one block, by rising key."""

    keys: Column
    occurrences: Column
    suffix: Column
    place: Column  # (P,) which of them ends at each place where one does
    index: Column  # (keys,) what index each has among all of its order
    sample: np.ndarray


@dataclass(frozen=True)
class Space:
    """How large a block is and where columns are."""

    block: int
    integers: type  # holds any count or index
    on_disk: bool

    def column(self, dtype: type | None = None) -> Column:
        """An empty column, of integers if nothing else is said."""
        return Column(dtype or self.integers, self.on_disk)

    def filled(self, values: np.ndarray, dtype: type | None = None) -> Column:
        """A column of these values."""
        column = self.column(dtype)
        column.append(values)
        return column


@dataclass
class _Merged:
    """An order while its runs are merged."""

    keys: Column
    occurrences: Column
    suffix: Column
    words_before: np.ndarray  # of each n-gram one order below: the one array of the size of the text in memory
    starts: int = field(default=0)  # n-grams that begin with SENTENCE_START, the lowest id, and so come first


def space_for(tokens: int) -> Space:
    """Blocks for a text of so many ids: in memory where one block holds it."""
    block = max(BLOCK_TOKENS, -(-tokens // MOST_RUNS))
    return Space(block, np.int32 if tokens < 2**31 else np.int64, tokens > block)


def count_ngrams(
    train: EncodedSplit, vocabulary_size: int, order: int, told: Callable[[int], object] = lambda tokens: None
) -> list[Grams]:
    """The n-grams of orders 1 to `order`; a unigram's index is its id.

    `told` is called with a number of tokens each time so many were counted, which happens once for each order above 1.
    """
    space = space_for(len(train.ids))
    edges = [*range(0, len(train.ids), space.block), len(train.ids)]
    unigrams = np.arange(vocabulary_size)
    below = _Merged(space.filled(unigrams, np.int64), space.filled(unigrams * 0), space.filled(unigrams * 0), unigrams)
    below.starts = 1
    runs: list[_Run | None] = [None] * (len(edges) - 1)
    grams = []
    for length in range(2, order + 1):
        last_index = 0  # of the n-gram one order below that ends a block
        for number, (start, stop) in enumerate(pairwise(edges)):
            ids_N, position_N = _block(train, start, stop)
            index_N = _index(ids_N, position_N, runs[number], length - 1)
            at_P = np.flatnonzero(position_N >= length - 1)
            before_N = np.append(last_index, index_N[:-1])
            last_index = index_N[-1]
            runs[number] = _run(before_N[at_P] * vocabulary_size + ids_N[at_P], index_N[at_P], space)
            told(stop - start)
        merged = _merge([run for run in runs if run], len(below.keys), below.starts * vocabulary_size, space)
        counts_G = merged.words_before
        counts_G[: below.starts] = below.occurrences.read(0, below.starts)
        grams.append(Grams(below.keys, space.filled(counts_G), below.suffix))
        below = merged
    return [*grams, Grams(below.keys, below.occurrences, below.suffix)]


def _block(train: EncodedSplit, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids from `start` up to `stop`, int64, and their places in their sentences, where SENTENCE_START has 0."""
    first, last = np.searchsorted(train.offsets, [start, stop - 1], side="right") - 1
    offsets = train.offsets[first : last + 2]
    position_N = np.arange(start, stop) - np.repeat(offsets[:-1], np.diff(offsets.clip(start, stop)))
    return np.asarray(train.ids[start:stop], np.int64), position_N


def _index(ids_N: np.ndarray, position_N: np.ndarray, run: _Run | None, length: int) -> np.ndarray:
    """The index of the n-gram of this length that ends at each place, int64; without meaning where none does."""
    if run is None:
        return ids_N
    index_N = np.zeros_like(ids_N)
    index_N[position_N >= length - 1] = run.index.whole()[run.place.whole()]
    return index_N


def _run(keys_P: np.ndarray, suffix_P: np.ndarray, space: Space) -> _Run:
    sorted_P, order_P = _sorted(keys_P)
    first_G = np.flatnonzero(np.diff(sorted_P, prepend=-1))
    return _Run(
        space.filled(sorted_P[first_G], np.int64),
        space.filled(np.diff(first_G, append=len(keys_P))),
        space.filled(suffix_P[order_P[first_G]]),
        space.filled(_group(order_P, first_G)),
        space.column(),
        sorted_P[first_G][:: max(1, space.block // SAMPLED_KEYS)],
    )


def _merge(runs: Sequence[_Run], below: int, starts_below: int, space: Space) -> _Merged:
    """All different n-grams of `runs`, the index of each told to its runs.

    Args:
        runs: of one order.
        below: number of n-grams one order below.
        starts_below: keys below this begin with SENTENCE_START.
        space: where columns are.
    """
    merged = _Merged(space.column(np.int64), space.column(), space.column(), np.zeros(below, space.integers))
    samples = np.sort(np.concatenate([run.sample for run in runs]))
    ranges = -(-sum(len(run.keys) for run in runs) // space.block)
    bounds = samples[[len(samples) * number // ranges for number in range(1, ranges)]]
    cuts = [[0, *np.searchsorted(run.keys.whole(), bounds).tolist(), len(run.keys)] for run in runs]
    for number in range(ranges):
        slices = [(cut[number], cut[number + 1]) for cut in cuts]
        parts = [run.keys.read(*part) for run, part in zip(runs, slices, strict=True)]
        sorted_P, order_P = _sorted(np.concatenate(parts))
        if not len(sorted_P):
            continue
        first_G = np.flatnonzero(np.diff(sorted_P, prepend=-1))
        suffix_P = np.concatenate([run.suffix.read(*part) for run, part in zip(runs, slices, strict=True)])
        occurrences_P = np.concatenate([run.occurrences.read(*part) for run, part in zip(runs, slices, strict=True)])
        index_P = _group(order_P, first_G) + len(merged.keys)
        for run, index in zip(runs, np.split(index_P, np.cumsum([len(part) for part in parts])[:-1]), strict=True):
            run.index.append(index)
        suffix_G = suffix_P[order_P[first_G]]
        np.add.at(merged.words_before, suffix_G, 1)
        merged.keys.append(sorted_P[first_G])
        merged.occurrences.append(np.add.reduceat(occurrences_P[order_P], first_G))
        merged.suffix.append(suffix_G)
        merged.starts += int(np.searchsorted(sorted_P[first_G], starts_below))
    return merged


def _sorted(keys_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of at least 0, sorted, and the order that sorts them, equal ones as they came."""
    if not len(keys_P):
        return keys_P, np.empty(0, np.int64)
    bits, lowest = len(keys_P).bit_length(), keys_P.min()
    if (int(keys_P.max()) - int(lowest)) >> (63 - bits):
        order_P = np.argsort(keys_P, kind="stable")
        return keys_P[order_P], order_P
    packed_P = (keys_P - lowest) << bits  # numbers alone are sorted several times as fast as numbers and their order
    packed_P |= np.arange(len(keys_P))
    packed_P.sort()
    return (packed_P >> bits) + lowest, packed_P & ((1 << bits) - 1)


def _group(order_P: np.ndarray, first_G: np.ndarray) -> np.ndarray:
    """Of keys sorted by `order_P`, of which different ones begin at `first_G`: which of these each is, int64."""
    group_P = np.empty_like(order_P)
    group_P[order_P] = np.repeat(np.arange(len(first_G)), np.diff(first_G, append=len(order_P)))
    return group_P
