"""The word types of a corpus, held against what vocabularies know."""

import tempfile
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from pipeline.runtime.progress import Bar
from pipeline.text.counting import WordCounts
from pipeline.text.splits import SPLITS
from pipeline.text.tokens import read_tokens
from pipeline.text.vocabulary import END_ID, Vocabulary


def unknown_types(tokens: Path, vocabularies: Sequence[Vocabulary], bar: Bar) -> list[int]:
    """How many word types each vocabulary does not know, of a set that is common to all.

    The set holds the types of the corpus, all splits, and the words of all vocabularies. A word of which the corpus
    itself says that it is unknown is one type more, which no vocabulary knows.

    Args:
        tokens: what the stage `tokenize` wrote.
        vocabularies: of the models to compare.
        bar: advanced by the number of sentences.

    Raises:
        InputError: the tokens cannot be read.
    """
    words = [set(vocabulary.tokens[END_ID + 1 : vocabulary.unknown_id]) for vocabulary in vocabularies]
    unnamed = False
    # As for the vocabulary: a corpus may have more types than memory holds.
    with tempfile.TemporaryDirectory() as folder:
        types = WordCounts(Path(folder))
        for known in words:
            types.add(known, repeat(1, len(known)))
        for split in SPLITS:
            for rows in read_tokens(tokens, split):
                found = rows.flatten().unique()
                unnamed = unnamed or found.null_count > 0
                found = found.drop_null().to_pylist()
                types.add(found, repeat(1, len(found)))
                bar.advance(len(rows))
        unknown = [int(unnamed)] * len(words)
        for word, _ in types.by_word():
            for number, known in enumerate(words):
                unknown[number] += word not in known
    return unknown
