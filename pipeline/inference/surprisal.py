"""How unexpected lines and their words are to a model: -ln P, in nats, and in bits.

The surprisal of a word given those before it is what studies of reading times compare with the time that people take
(Hale 2001, Levy 2008). A model reads tokens, of which a word as people write it may hold several: `don't.` is `do`,
`n't` and `.`. The surprisal of the word is the sum of theirs.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.paired import nats_over_types
from pipeline.inference.predictor import Predictor
from pipeline.model.streams import Carried
from pipeline.text.vocabulary import SENTENCE_END

QUOTES = {"``", "''"}  # what the tokenizer makes of a double quote


class Line(NamedTuple):
    """What a model says of a line; the names are those of the server's answers."""

    line: int  # from 1
    log_probability: float  # natural
    tokens: int  # the end counted
    unknown: int  # tokens that the model does not know

    def row(self) -> str:
        """As `rnnlm score` prints it, tab-separated."""
        return f"{self.log_probability:.6f}\t{self.tokens}\t{self.unknown}"


class Word(NamedTuple):
    """What a model says of a token: a word of a line or a part of one, or the end of the line."""

    line: int  # from 1
    word: int  # which of the words of the line, between white space, the token is of, from 1; 0: the end of the line
    text: str  # that word as it stands there; empty at the end
    token: str  # as the model reads it
    nats: float  # -ln P(token | those before it); of a line, they add up to -log_probability
    bits: float
    rank: int  # 1: the model found no other likelier
    unknown: bool

    def row(self) -> str:
        """As `rnnlm score --per-word` prints it, tab-separated."""
        return (
            f"{self.line}\t{self.word}\t{self.text}\t{self.token}\t{self.nats:.6f}\t{self.bits:.6f}\t{self.rank}"
            f"\t{self.unknown:d}"
        )


def surprisal_of_lines(
    predictor: Predictor, parts: Iterable[list[str]], unknown_types: int | None = None, tokenized: bool = False
) -> Iterator[list[Line]]:
    """A row for each line, in order, as soon as its part has come.

    Args:
        predictor: the model.
        parts: lines, of which those of a part share forward passes; that changes no digit.
        unknown_types: words that share the probability of an unknown one, where a line is to be charged for naming
            them (see `nats_over_types`); None: it is not.
        tokenized: there are spaces between the tokens of the lines, which stay as they are.
    """
    number, carried = 0, Carried()
    for lines in parts:
        split = predictor.encode(predictor.tokens(lines, tokenized))
        unknown = split.count(predictor.vocabulary.unknown_id)
        nats = predictor.nats(split, carried)
        if unknown_types is not None:
            nats = nats_over_types(nats, unknown, unknown_types)
        numbers = range(number + 1, number + len(lines) + 1)
        yield list(map(Line, numbers, (-nats).tolist(), split.lengths.tolist(), unknown.tolist()))
        number += len(lines)


def surprisal_of_words(
    predictor: Predictor, parts: Iterable[list[str]], unknown_types: int | None = None, tokenized: bool = False
) -> Iterator[list[Word]]:
    """A row for each token of each line; otherwise as `surprisal_of_lines`."""
    number, carried = 0, Carried()
    naming = math.log(max(unknown_types or 1, 1))
    for lines in parts:
        tokens = predictor.tokens(lines, tokenized)
        scored = _scored(predictor, tokens, carried)
        rows = []
        for line, words in zip(lines, tokens, strict=True):
            number += 1
            places = [*words_of_tokens(line, words, predictor.text.lowercase), (0, "")]
            for (place, text), token in zip(places, [*words, SENTENCE_END], strict=True):
                nats, rank, unknown = next(scored)
                nats += naming * unknown
                rows.append(Word(number, place, text, token, nats, nats / math.log(2), rank, unknown))
        yield rows


def _scored(predictor: Predictor, tokens: list[list[str]], carried: Carried) -> Iterator[tuple[float, int, bool]]:
    """Nats, rank and whether it is unknown, of each token and the end of each line, in order."""
    split = predictor.encode(tokens)
    nats_N, rank_N = np.zeros(split.tokens), np.zeros(split.tokens, np.int64)
    unknown_N = np.zeros(split.tokens, bool)
    for batch, token_N, before in predictor.passes(split, carried):
        scores = predictor.model.score(batch, before)
        nats_N[token_N] = scores.nats_N.cpu().numpy()
        rank_N[token_N] = scores.rank_N.cpu().numpy() + 1
        unknown_N[token_N] = batch.y_N.cpu().numpy() == predictor.vocabulary.unknown_id
    return zip(nats_N.tolist(), rank_N.tolist(), unknown_N.tolist(), strict=True)


def words_of_tokens(line: str, tokens: Iterable[str], lowercase: bool) -> list[tuple[int, str]]:
    """For each token of a line the number, from 1, and the text of the word between white space that it is of.

    The tokenizer only puts white space between characters, makes two characters of a double quote, and `lowercase`s.
    """
    words = line.split()
    found, place, left = [], 0, ""  # of the word at hand, what its tokens so far leave
    for token in tokens:
        if not left:
            left = words[place].lower() if lowercase else words[place]
            place += 1
        found.append((place, words[place - 1]))
        left = left[1 if token in QUOTES and left[0] == '"' else len(token) :]
    return found
