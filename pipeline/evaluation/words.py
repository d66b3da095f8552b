"""The test split word by word: what a model spent on each word, and which words it thought the likeliest there.

`evaluate` and `baselines` write it, the report's page shows it. Which sentences are looked at depends on the split
alone, so it is the same for all models, none of which knows of the others. words.parquet has a row for each of their
targets, sentence after sentence: `sentence`, its index in the split; `target`, the id; `nats`, -ln P(target); and
`likeliest`, the ids of the five likeliest words, with `likeliest_nats`, -ln P of each. That is so for the sentences
that may be shown; elsewhere the ids are -1. A model that counts has `seen`: how many words before the target, and the
target, the training split has in a row, from 1 (the target alone, or not even that) to the order of the model.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from pipeline.evaluation.results import damaged, named
from pipeline.runtime.errors import is_of_the_machine
from pipeline.runtime.files import atomic_path
from pipeline.text.encoded import EncodedSplit

WORDS_FILE = "words.parquet"  # in a model's folder of data/evaluation, and of the baselines
INSIDE_FILE = "inside.json"  # in a model's folder; inside.py says what it holds
PLAIN_RNNS_FILE = "plain_rnns.csv"  # in the folder of the baselines; gradient_flow.py writes it
MOST_SENTENCES = 2000  # that are looked at
MOST_SHOWABLE = 700  # of these, that may be shown
SHOWABLE_LENGTHS = (5, 40)  # targets: less says little, more fits no screen
LIKELIEST = 5  # words
NOT_LOOKED = -1


@dataclass(frozen=True)
class Words:
    """What words.parquet holds: N targets, K likeliest words of each."""

    sentence: np.ndarray  # int32 (N,)
    target: np.ndarray  # int32 (N,)
    nats: np.ndarray  # float32 (N,)
    likeliest: np.ndarray  # int32 (N, K)
    likeliest_nats: np.ndarray  # float32 (N, K)
    seen: np.ndarray | None = None  # int8 (N,)

    def rows(self, sentence: int) -> slice:
        """Where the targets of a sentence are."""
        first, last = np.searchsorted(self.sentence, [sentence, sentence + 1])
        return slice(int(first), int(last))


def looked_at(lengths_S: np.ndarray) -> np.ndarray:
    """The sentences of a split that are looked at: all, or evenly spaced ones; rising int64."""
    return _evenly(np.arange(len(lengths_S)), MOST_SENTENCES)


def showable(lengths_S: np.ndarray) -> np.ndarray:
    """Of those looked at, the sentences that may be shown; there may be none."""
    found = looked_at(lengths_S)
    shortest, longest = SHOWABLE_LENGTHS
    return _evenly(found[(lengths_S[found] >= shortest) & (lengths_S[found] <= longest)], MOST_SHOWABLE)


def drawn(showable_S: np.ndarray, count: int) -> np.ndarray:
    """Some of the sentences that may be shown, chosen by nothing but their place."""
    return _evenly(showable_S, count)


def part_of(split: EncodedSplit, sentences: np.ndarray) -> EncodedSplit:
    """Some sentences of a split, as a split of their own."""
    sizes = split.lengths[sentences] + 1
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    ids = split.ids[np.repeat(split.offsets[sentences] - offsets[:-1], sizes) + np.arange(offsets[-1])]
    return EncodedSplit(ids, offsets)


def write_words(path: Path, words: Words) -> None:
    """Write words.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for field in fields(Words):
        values = getattr(words, field.name)
        if values is not None:
            flat = pa.array(np.ascontiguousarray(values).ravel())
            columns[field.name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def read_words(path: Path) -> Words:
    """What `write_words` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with named(path, "no words of sentences"):
        try:
            table = pq.read_table(path).combine_chunks()
            columns = {}
            for field in fields(Words):
                if field.name in table.column_names:
                    column = table[field.name].combine_chunks()
                    nested = pa.types.is_fixed_size_list(column.type)
                    flat = (column.flatten() if nested else column).to_numpy()
                    columns[field.name] = flat.reshape(len(table), -1) if nested else flat
            words = Words(**columns)
        except (pa.ArrowException, OSError, TypeError) as error:
            if isinstance(error, FileNotFoundError) or is_of_the_machine(error):
                raise
            raise ValueError(str(error)) from None
        whole = len(words.nats) and words.likeliest.shape == words.likeliest_nats.shape
        if not whole or not (np.isfinite(words.nats).all() and np.isfinite(words.likeliest_nats).all()):
            raise ValueError
        if (np.diff(words.sentence) < 0).any():
            raise ValueError
    return words


def same_words(words: Words, other: Words, path: Path) -> Words:
    """`other`, which is in the file `path`, if it is of the same targets.

    Raises:
        InputError: it is not.
    """
    if not np.array_equal(words.sentence, other.sentence) or not np.array_equal(words.target, other.target):
        raise damaged(path, "other words than those of another model")
    return other


def _evenly(values: np.ndarray, count: int) -> np.ndarray:
    """`count` of the values, evenly spaced; all where there are no more."""
    return values if len(values) <= count else values[np.arange(count) * len(values) // count]
