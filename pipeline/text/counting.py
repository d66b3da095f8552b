"""How often each word occurs."""

from collections import Counter
from pathlib import Path

from pipeline.text.splits import Split
from pipeline.text.tokens import read_tokens


def count_words(tokens: Path, split: Split) -> tuple[Counter[str], int]:
    """Occurrences of every word in one split, and the number of its sentences.

    Args:
        tokens: what the stage `tokenize` wrote.
        split: the split to count.

    Raises:
        InputError: the tokens cannot be read.
    """
    counts: Counter[str] = Counter()
    sentences = 0
    for rows in read_tokens(tokens, split):
        sentences += len(rows)
        found = rows.flatten().value_counts()
        for word, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
            counts[word] += count
    return counts, sentences
