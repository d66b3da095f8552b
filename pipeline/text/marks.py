"""Special tokens as other tools write them: unknown words, and where sentences begin and end."""

import re
from collections.abc import Iterator, Sequence

UNKNOWN_MARKS = frozenset({"<unk>", "<unknown>", "[unk]"})
EDGES = frozenset({"<s>", "</s>", "<bos>", "<sos>", "<eos>", "<pad>", "[cls]", "[sep]", "[pad]"})
IN_TEXT = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, sorted(UNKNOWN_MARKS | EDGES)))})(?!\S)", re.IGNORECASE)


def sentences_of(words: Sequence[str]) -> Iterator[list[str | None]]:
    """The sentences of a line of a tokenized corpus: none of its marks is a word, and an unknown word is None."""
    sentence: list[str | None] = []
    for word in words:
        mark = word.lower() if word[0] in "<[" else ""
        if mark in EDGES:
            yield sentence
            sentence = []
        else:
            sentence.append(None if mark in UNKNOWN_MARKS else word)
    yield sentence


def holds_marks(text: str) -> bool:
    """Whether a text has such a token between spaces, as text has that is tokenized already."""
    return ("<" in text or "[" in text) and IN_TEXT.search(text) is not None
