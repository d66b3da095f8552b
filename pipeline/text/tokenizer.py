r"""Sentences to tokens: exactly what NLTK's `NLTKWordTokenizer` returns, many times faster.

NLTK's tokenizer is a list of substitutions that put spaces around tokens, each applied to the whole sentence; at the
end the sentence is split at white space. They cannot be applied word by word, because some see past the white space
beside a word: a double quote opens or closes by what stands before it, an apostrophe is split off by the space behind
it, and the final period is the one with nothing behind it but closing marks and white space. So here, too, each
substitution sees the whole sentence, in NLTK's order. The time goes elsewhere:

1. A substitution is left out when the sentence lacks a character, or characters side by side, that all its matches
   hold. The others never put side by side what was apart: they insert spaces, and turn `"` into two backticks or
   apostrophes.
2. One that pads a fixed string is `str.replace`. Those that pad different marks, with no other between them in NLTK's
   order, touch different characters, and a space beside one mark is not inside a run of another: their order is free.
3. The two for the final period allow no period behind the one they match, up to the end: it can only be the last,
   which `rfind` finds. The second allows less behind it than the first and comes when only spaces were inserted
   since, so it matches only where the first did, and then puts spaces beside spaces; it is left out.
4. The ones for clitics take in the character before the clitic only to see what it is. No match can begin inside
   another (each ends in a space, and none begins with one), so a look-behind finds the same; it lets the search begin
   at the apostrophe. What they look for has no classes or cases, so the engine does not matter.
5. `([^'])' ` -> `\1 ' ` may as well put its space where no character, or another space, stands before the apostrophe:
   a space at the start, or beside a space, is one space later. Where two apostrophes meet, NLTK's pattern does it.
6. `\s+` -> ` ` is a split and a join; without an apostrophe nothing looks at spaces behind it, and the last split
   does.
7. Where every comma and colon has a space behind it, "no digit behind it" holds.

NLTK compiles most patterns with the package `regex` (3.10.0 did with `re`) and the contractions with `re`. The two
disagree on U+001C to U+001F, which are white space for `re` and `str.split` only, and on letters and digits that are
new in Unicode. So what depends on a class or on case is left to NLTK's pattern in NLTK's engine, and 6 is not done in
sentences with those four characters.

Time and memory are linear in the length of the sentence, nothing is remembered from one sentence to the next, and
NLTK's limit of five seconds a substitution does not apply. The tests hold NLTK's patterns against the ones that this
was argued for, and the tokens against NLTK's.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import regex

from pipeline.runtime.settings import nltk_alone
from pipeline.text.scripts import spaced

with nltk_alone():
    from nltk.tokenize.destructive import NLTKWordTokenizer


def _engine(pattern: Any) -> Any:
    """NLTK's pattern in the engine that NLTK compiled it with, without NLTK's time limit."""
    return pattern if isinstance(pattern, re.Pattern) else regex.compile(pattern.pattern, pattern.flags)


def _substitution(pattern: Any, replacement: str) -> Callable[[str], str]:
    return partial(_engine(pattern).sub, replacement)


# NLTK's own substitutions, where what they do depends on the engine or is too tangled to write out.
_NLTK = NLTKWordTokenizer
_opening_quotes = _substitution(*_NLTK.STARTING_QUOTES[3])
_opening_apostrophes = _substitution(*_NLTK.STARTING_QUOTES[4])
_colons = _substitution(*_NLTK.PUNCTUATION[1])
_last_colon = _substitution(*_NLTK.PUNCTUATION[2])
_periods = _substitution(*_NLTK.PUNCTUATION[3])
_apostrophes = _substitution(*_NLTK.PUNCTUATION[8])
_white_space = _substitution(*_NLTK.ENDING_QUOTES[3])
_contractions = {
    need: _substitution(pattern, r" \1 \2 ")
    for need, pattern in zip(
        # What each holds, in lower case: contractions are found in either.
        ("cannot", "d'ye", "gimme", "gonna", "gotta", "lemme", "more'n", "wanna", "'tis", "'twas"),
        (*_NLTK.CONTRACTIONS2, *_NLTK.CONTRACTIONS3),
        strict=True,
    )
}

# Characters that decide what must be done. `_PADDED` are padded wherever they stand.
_BEFORE_APOSTROPHES = {mark: f" {mark} " for mark in ";@#$%&‒–—―?!"}
_AFTER_APOSTROPHES = {mark: f" {mark} " for mark in "*[](){}<>"}
_STARTING = {mark: f" {mark} " for mark in "«“‘„"}
_ENDING = {mark: f" {mark} " for mark in "»”’"}
_PADDED = _BEFORE_APOSTROPHES | _AFTER_APOSTROPHES
_NO_SPACE_IN_REGEX = frozenset("\x1c\x1d\x1e\x1f")
_ODD_CASE = frozenset("İıſ")  # `re` takes them for i or s when case is ignored, but `lower` does not make them so
_HARD = frozenset("\"'`").union(_STARTING, _ENDING, _NO_SPACE_IN_REGEX, _ODD_CASE)
_marks = re.compile(f"[,:{re.escape(''.join(sorted(_HARD.union(_PADDED))))}]").findall

_CLOSING = "])}>\"'»”’ "  # what may stand between the final period and the end
_only_white_space = _engine(_NLTK.ENDING_QUOTES[3][0]).fullmatch
_colon_before_word = re.compile("[,:][^ ]").search

# Patterns that begin with their rarest character are found fastest, so what stands before it is looked up behind it.
_backticks = partial(re.compile("``*").sub, lambda match: f" {match[0]} ")
_may_open = re.compile(r"'(?:(?<![A-Za-z0-9_]')|(?![mtsdnMTSDN]))[A-Za-z0-9_\x80-\U0010ffff]").search
_clitics = partial(re.compile("'(?<=[^' ]')[sSmMdD]? ").sub, lambda match: f" {match[0]}")
_has_long_clitic = re.compile("'(?:ll|LL|re|RE|ve|VE|(?<=n')t|(?<=N')T) ").search
_long_clitics = partial(re.compile("(?<=[^' ])(?:'ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ").sub, lambda match: f" {match[0]}")
_has_contraction = re.compile("'(?:ye|n|tis|twas)").search


def _spaced(text: str, marks: set[str]) -> str:
    """`text` without `_HARD` characters, spaces put around its tokens; `marks` are its commas, colons, `_PADDED`."""
    text = _with_final_period(text)
    if "," in marks or ":" in marks:
        text = _with_colons(text)
    text = _padded(text, marks, _PADDED)
    if ".." in text:
        text = _periods(text)
    text = text.replace("--", " -- ")
    return _with_contractions(text, text.lower())


def _spaced_by_all(text: str, marks: set[str]) -> str:
    """`text`, spaces put around its tokens; `marks` are its commas, colons, `_PADDED` and `_HARD` characters."""
    text = _with_opening_quotes(text, marks)
    text = _with_final_period(text)
    if "," in marks or ":" in marks:
        text = _with_colons(text)
    if ".." in text:
        text = _periods(text)
    text = _padded(text, marks, _BEFORE_APOSTROPHES)
    if "' " in text:
        text = _apostrophes(text) if "''" in text else text.replace("' ", " ' ")
    text = _padded(text, marks, _AFTER_APOSTROPHES)
    text = text.replace("--", " -- ")
    text = _padded(text, marks, _ENDING)
    if "'" in marks or '"' in marks:
        text = text.replace("''", " '' ").replace('"', " '' ")
        # Now every run of white space becomes one space, for the patterns that look for one.
        text = f" {' '.join(text.split())} " if marks.isdisjoint(_NO_SPACE_IN_REGEX) else _white_space(f" {text} ")
        text = _clitics(text)
        if _has_long_clitic(text):
            text = _long_clitics(text)
    return _with_contractions(text, text.lower(), odd_case=not marks.isdisjoint(_ODD_CASE))


def _padded(text: str, marks: set[str], padded: dict[str, str]) -> str:
    for mark in padded.keys() & marks:
        text = text.replace(mark, padded[mark])
    return text


def _with_opening_quotes(text: str, marks: set[str]) -> str:
    """STARTING_QUOTES: a double quote opens at the start, after a space or an opening bracket."""
    text = _padded(text, marks, _STARTING)
    if "`" in marks:
        text = _backticks(text).replace("``", " `` ")
    if text.startswith('"'):
        text = f" `` {text[1:]}"
    if "''" in text:
        text = _opening_quotes(text)
    elif '"' in marks:
        text = text.replace(' "', "  `` ")  # before the brackets, which put spaces before what follows
        for bracket in marks & {"(", "[", "{", "<"}:
            text = text.replace(f'{bracket}"', f"{bracket} `` ")
    return _opening_apostrophes(text) if "'" in marks and _may_open(text) else text


def _with_final_period(text: str) -> str:
    r"""`([^\.])(\.)([_CLOSING]*)\s*$` -> `\1 \2 \3 `."""
    if text[-1:] == "." != text[-2:-1] and len(text) > 1:
        return f"{text[:-1]} . "
    period = text.rfind(".")
    if period < 1 or text[period - 1] == ".":
        return text
    tail = text[period + 1 :]
    rest = tail.lstrip(_CLOSING)
    if rest and not _only_white_space(rest):
        return text
    return f"{text[:period]} . {tail[: len(tail) - len(rest)]} "


def _with_colons(text: str) -> str:
    r"""`([:,])([^\d])` -> ` \1 \2`, then `([:,])$` -> ` \1 `."""
    text = _colons(text) if _colon_before_word(text) else text.replace(", ", " , ").replace(": ", " : ")
    return _last_colon(text) if text[-1:] in ",:\n" else text


def _with_contractions(text: str, lower: str, odd_case: bool = False) -> str:
    # First what most sentences lack: cannot, gonna, wanna; gimme, lemme; gotta; the others.
    if "nn" in lower or "mme" in lower or "otta" in lower or ("'" in lower and _has_contraction(lower)) or odd_case:
        text = f" {text} "
        for need, substitute in _contractions.items():
            if odd_case or need in lower:
                text = substitute(text)
    return text


class Tokenizer:
    """Splits a sentence into words and punctuation marks, and then lower-cases them if `lowercase`.

    `by_character`: each character of a script without spaces is a token.
    """

    def __init__(self, lowercase: bool, by_character: bool = False) -> None:
        self._lowercase = lowercase
        self._by_character = by_character

    def tokenize(self, sentence: str) -> list[str]:
        """The tokens of `sentence`; none holds white space, none is empty."""
        if self._by_character:
            sentence = spaced(sentence)
        marks = set(_marks(sentence))
        text = _spaced(sentence, marks) if _HARD.isdisjoint(marks) else _spaced_by_all(sentence, marks)
        if not self._lowercase:
            return text.split()
        # What `lower` makes of a sigma depends on its neighbours, and those are others before the split.
        return [token.lower() for token in text.split()] if "Σ" in text else text.lower().split()
