"""How often each word occurs, exactly, in bounded memory.

Words are counted in a dictionary. When it grows too large it goes to disk, sorted, and counting restarts; at the end
the sorted runs are merged. So a corpus with more distinct words than memory holds is counted as exactly as a small one,
and nothing is ever pruned.
"""

import heapq
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from pipeline.runtime.parallel import ordered_map
from pipeline.runtime.progress import Bar
from pipeline.text.parquet import arrays
from pipeline.text.splits import SPLITS, Split
from pipeline.text.tokens import read_tokens
from pipeline.text.vocabulary import END_ID, SENTENCE_END, SENTENCE_START, SPECIALS, UNKNOWN_TOKEN, Vocabulary

WORDS_IN_MEMORY = 2_000_000
RUN_SCHEMA = pa.schema([("word", pa.string()), ("count", pa.int64())])
RUN_BATCH = 1 << 12  # words of each run that are in memory while runs are merged

Count = tuple[str, int]


class WordCounts:
    """Counts of words.

    Attributes:
        sentences: how many there are.
        unknown: tokens that the corpus itself marks as unknown.
        tokens: all others.

    After `words_in_memory` distinct words they go to disk, into the empty `folder`; whoever made it removes it.
    """

    def __init__(self, folder: Path, words_in_memory: int = WORDS_IN_MEMORY) -> None:
        self._limit = words_in_memory
        self._counts: Counter[str] = Counter()
        self._folder = folder
        self._runs: list[Path] = []
        self.sentences = self.unknown = self.tokens = 0

    def add(self, words: Iterable[str], counts: Iterable[int]) -> None:
        """Add to the counts of `words`."""
        for word, count in zip(words, counts, strict=True):
            self._counts[word] += count
            self.tokens += count
        if len(self._counts) > self._limit:
            self._write_run()

    def by_word(self) -> Iterator[Count]:
        """Every word and its count, in the order of code points."""
        runs = [_read_run(path) for path in self._runs]
        merged = heapq.merge(*runs, sorted(self._counts.items()), key=itemgetter(0))
        for word, same in groupby(merged, key=itemgetter(0)):
            yield word, sum(count for _, count in same)

    def most_frequent(self, number: int | None) -> list[Count]:
        """The `number` most frequent words, or all, ties in the order of code points; memory holds no more of them."""
        ranked = ((-count, word) for word, count in self.by_word())
        best = sorted(ranked) if number is None else heapq.nsmallest(number, ranked)
        return [(word, -count) for count, word in best]

    def _write_run(self) -> None:
        path = self._folder / str(len(self._runs))
        ordered = sorted(self._counts.items())
        with pa.ipc.new_stream(str(path), RUN_SCHEMA) as writer:
            for start in range(0, len(ordered), RUN_BATCH):
                columns = arrays(ordered[start : start + RUN_BATCH], RUN_SCHEMA)
                writer.write_batch(pa.record_batch(columns, RUN_SCHEMA))
        self._runs.append(path)
        self._counts.clear()


def count_words(tokens: Path, split: Split, folder: Path, workers: int, bar: Bar) -> WordCounts:
    """Count every word of one split of what the stage `tokenize` wrote; `bar` advances by sentences.

    `folder` is that of `WordCounts`, `workers` the number of processes.

    Raises:
        InputError: the tokens cannot be read.
    """
    counts = WordCounts(folder)
    for sentences, unknown, words, numbers in ordered_map(_count_block, read_tokens(tokens, split), workers):
        counts.sentences += sentences
        counts.unknown += unknown
        counts.add(words.to_pylist(), numbers.to_pylist())
        bar.advance(sentences)
    return counts


def build_vocabulary(counts: WordCounts, size: int | None) -> Vocabulary:
    """The `size` - 3 most frequent words, ties in alphabetical (code point) order; all of them when `size` is None.

    `counts` are those of the training split; `size` is the largest C, the special tokens included.
    """
    kept = counts.most_frequent(None if size is None else size - SPECIALS)
    outside = counts.tokens - sum(count for _, count in kept) + counts.unknown
    return Vocabulary(
        [SENTENCE_START, SENTENCE_END, *(word for word, _ in kept), UNKNOWN_TOKEN],
        [0, counts.sentences, *(count for _, count in kept), outside],
    )


def unknown_types(tokens: Path, vocabularies: Sequence[Vocabulary], bar: Bar) -> list[int]:
    """How many word types each vocabulary does not know, of a set that is common to all.

    The set holds the types of the corpus (all splits of what the stage `tokenize` wrote) and the words of all
    vocabularies. Words that the corpus itself marks as unknown are one more type, which no vocabulary knows. `bar`
    advances by sentences.

    Raises:
        InputError: the tokens cannot be read.
    """
    words = [set(vocabulary.tokens[END_ID + 1 : vocabulary.unknown_id]) for vocabulary in vocabularies]
    unnamed = False
    # As for the vocabulary: a corpus may have more types than memory holds.
    with tempfile.TemporaryDirectory() as folder:
        types = WordCounts(Path(folder))
        for known in words:
            types.add(known, [1] * len(known))
        for split in SPLITS:
            for rows in read_tokens(tokens, split):
                found = rows.flatten().unique()
                unnamed = unnamed or found.null_count > 0
                found = found.drop_null().to_pylist()
                types.add(found, [1] * len(found))
                bar.advance(len(rows))
        unknown = [int(unnamed)] * len(words)
        for word, _ in types.by_word():
            for number, known in enumerate(words):
                unknown[number] += word not in known
    return unknown


def _count_block(rows: pa.ListArray) -> tuple[int, int, pa.Array, pa.Array]:
    tokens = rows.flatten()
    found = tokens.drop_null().value_counts()
    return len(rows), tokens.null_count, found.field("values"), found.field("counts")


def _read_run(path: Path) -> Iterator[Count]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            words, counts = batch.columns
            yield from zip(words.to_pylist(), counts.to_pylist(), strict=True)
