"""Special tokens as other tools write them: unknown words, and where sentences begin and end."""

import re
from collections.abc import Iterator, Sequence

UNKNOWN_MARKS = r"<(?:unk|unknown|oov|mask)>|\[(?:unk|oov|mask)\]|__unk__|<\|(?:unk|mask)\|>"
# Ends of sentences, turns, paragraphs and documents, and what fills up a line.
SENTENCE_EDGES = "bos|eos|sos|sot|eot|eod|eop|eou|pad"
BARRED = r"<\|[\w.-]+\|>"  # such as <|endoftext|>, which stands in text without spaces
EDGE_MARKS = rf"</?s>|<(?:{SENTENCE_EDGES}|cls|sep)>|\[(?:{SENTENCE_EDGES}|cls|sep)\]|__(?:{SENTENCE_EDGES})__|{BARRED}"
UNKNOWN_MARK, EDGE_MARK = re.compile(UNKNOWN_MARKS, re.IGNORECASE), re.compile(EDGE_MARKS, re.IGNORECASE)
IN_TEXT = re.compile(rf"(?<!\S)(?:{UNKNOWN_MARKS}|{EDGE_MARKS})(?!\S)|{BARRED}", re.IGNORECASE)
FIRST_OF_MARKS = "<[_"  # characters of a mark


def sentences_of(words: Sequence[str]) -> Iterator[list[str | None]]:
    """The sentences of a line of a tokenized corpus: none of its marks is a word, and an unknown word is None."""
    sentence: list[str | None] = []
    for word in words:
        is_odd = word[0] in FIRST_OF_MARKS
        if is_odd and UNKNOWN_MARK.fullmatch(word):
            sentence.append(None)
        elif is_odd and EDGE_MARK.fullmatch(word):
            yield sentence
            sentence = []
        else:
            sentence.append(word)
    yield sentence


def holds_marks(text: str) -> bool:
    """Whether a text has such a token between spaces, as text has that is tokenized already."""
    return any(first in text for first in FIRST_OF_MARKS) and IN_TEXT.search(text) is not None
