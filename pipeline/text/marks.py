"""Special tokens as other tools write them: unknown words, and where sentences begin and end."""

import re
from collections.abc import Iterator, Sequence

from pipeline.runtime.errors import InputError

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


def tokens_of(line: str) -> list[str]:
    """The tokens of one sentence that is tokenized already, as they stand; marks of unknown words are in no vocabulary.

    Raises:
        InputError: it has a mark of where sentences begin or end, which is no word.
    """
    words = line.split()
    for word in words:
        if word[0] in FIRST_OF_MARKS and EDGE_MARK.fullmatch(word):
            raise InputError(
                f"{word} is no word of tokenized text; give each sentence a line of its own, without such marks"
            )
    return words


def holds_marks(text: str) -> bool:
    """Whether a text has such a token between spaces, as text has that is tokenized already."""
    return any(first in text for first in FIRST_OF_MARKS) and IN_TEXT.search(text) is not None
