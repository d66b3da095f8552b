"""Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan), read by character.

Korean has spaces. Full-width marks and forms count as such characters: they stand in such text without spaces, too.
"""

import re
from itertools import pairwise

# Thai to Tibetan, Myanmar, Khmer, CJK with kana and full-width forms, and CJK beyond the first plane.
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
ONE = re.compile(f"[{UNSPACED}]")
BETWEEN = re.compile(f"(?<=[{UNSPACED}]) +(?=[{UNSPACED}])")
BLANK_BESIDE = re.compile(f"(?<=[{UNSPACED}]) | (?=[{UNSPACED}])")
# The end of a sentence, closing quotes and brackets included; where ASCII marks end it, white space follows.
SENTENCE_END_MARK = re.compile(r"[。！？｡]+[」』”’）】》\"')]*|[.!?…]+[」』”’）】》\"')]*(?=\s)")

MUCH = 0.2  # share of the characters from which text counts as one of such a script
LONGEST_WORDS = 8  # characters to a blank, on average, where blanks are between words: 2 in Chinese, 5 in Thai


def spaced(text: str) -> str:
    """`text` with a blank around each such character."""
    return text if text.isascii() else ONE.sub(r" \g<0> ", text)


def without_blanks(text: str) -> str:
    """`text` without the blanks beside such characters."""
    return text if text.isascii() else BLANK_BESIDE.sub("", text)


def sentences_by_mark(paragraph: str) -> list[str]:
    """The sentences of a paragraph by their closing marks alone, full-width ones too."""
    ends = [0, *(match.end() for match in SENTENCE_END_MARK.finditer(paragraph)), len(paragraph)]
    found = (paragraph[start:end].strip() for start, end in pairwise(ends))
    return [sentence for sentence in found if sentence]


def unspaced_characters(text: str) -> tuple[int, int]:
    """How many such characters a text has, and how many times there are blanks between two of them."""
    return (0, 0) if text.isascii() else (len(ONE.findall(text)), len(BETWEEN.findall(text)))


def is_unspaced(characters: int, unspaced: int, blanks: int) -> bool:
    """Whether text with so many characters, `unspaced` of them such, has too few blanks for one between any words."""
    return unspaced > max(MUCH * characters, LONGEST_WORDS * blanks)
