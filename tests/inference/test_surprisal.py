"""Surprisal of lines and words: sums, joins, and the same digits in whatever parts lines come."""

import math
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference import predictor as module
from pipeline.inference.scoring import score_split
from pipeline.inference.surprisal import surprisal_of_lines, surprisal_of_words, words_of_tokens
from pipeline.runtime.errors import InputError
from pipeline.text.tokenizer import Tokenizer

LINES = ["This is the zyzzyva.", "", 'the  "is" of', "of of the is", "is."]


def rows(surprisal, predictor, parts, types=None) -> list:
    return [row for part in surprisal(predictor, parts, types) for row in part]


@pytest.mark.parametrize("context", ["sentence", "stream"])
def test_lines_have_the_digits_of_the_stage_and_the_server_in_whatever_parts_they_come(
    context: str, make_predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = make_predictor(context=context)
    split = predictor.encode(predictor.tokens(LINES))
    stage = score_split(predictor, split, "test").sentences
    together = rows(surprisal_of_lines, predictor, [LINES])
    assert [row.line for row in together] == [1, 2, 3, 4, 5]
    assert [-row.log_probability for row in together] == stage.nats.tolist() == predictor.nats(split).tolist()
    assert [row.tokens for row in together] == stage.tokens.tolist() == [6, 1, 6, 5, 3]
    assert [row.unknown for row in together] == stage.unknown.tolist()
    monkeypatch.setattr(module, "BATCH_TOKENS", 4)
    assert together == rows(surprisal_of_lines, predictor, [LINES[:1], LINES[1:3], LINES[3:]])


@pytest.mark.parametrize(("types", "context"), [(None, "sentence"), (7, "sentence"), (None, "stream")])
def test_words_add_up_to_their_line_and_have_its_ranks_and_unknown_words(
    types: int | None, context: str, make_predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 7)  # passes of a stream end within lines
    predictor = make_predictor(context=context)
    lines = rows(surprisal_of_lines, predictor, [LINES], types)
    words = rows(surprisal_of_words, predictor, [LINES[:2], LINES[2:]], types)
    for line, (number, own) in zip(lines, groupby(words, key=lambda word: word.line), strict=True):
        own = list(own)
        assert (number, len(own)) == (line.line, line.tokens)
        assert sum(word.nats for word in own) == pytest.approx(-line.log_probability, rel=0 if types is None else 1e-12)
        assert sum(word.unknown for word in own) == line.unknown
        assert all(word.bits == pytest.approx(word.nats / math.log(2)) for word in own)
        assert (own[-1].word, own[-1].text, own[-1].token) == (0, "", "SENTENCE_END")
    stage = score_split(predictor, predictor.encode(predictor.tokens(LINES)), "test").sentences
    for rank, counts in ((1, stage.top1), (5, stage.top5)):
        found = [sum(word.rank <= rank for word in words if word.line == line.line) for line in lines]
        assert found == np.asarray(counts).tolist()
    assert min(word.rank for word in words) >= 1


@pytest.mark.parametrize("context", ["sentence", "stream"])
def test_tokenized_lines_are_read_as_the_corpus_they_are_of(context: str, make_predictor) -> None:
    predictor = make_predictor(context=context)
    lines = ["the <unk> is of", "The is"]
    corpus = [["the", None, "is", "of"], [None, "is"]]  # as the text path keeps them: no vocabulary has `The`
    stage = score_split(predictor, predictor.encode(corpus), "test").sentences
    (found,) = surprisal_of_lines(predictor, [lines], tokenized=True)
    assert [(-row.log_probability, row.tokens, row.unknown) for row in found] == list(
        zip(stage.nats.tolist(), [5, 3], [1, 1], strict=True)
    )
    (words,) = surprisal_of_words(predictor, [lines], tokenized=True)
    assert [word.text for word in words] == ["the", "<unk>", "is", "of", "", "The", "is", ""]
    assert sum(word.nats for word in words) == pytest.approx(stage.nats.sum())
    (taken_apart,) = surprisal_of_lines(predictor, [lines])
    assert [row.tokens for row in taken_apart] == [7, 3]
    with pytest.raises(InputError, match=r"^</s> is no word of tokenized text; give each sentence a line of its own"):
        list(surprisal_of_lines(predictor, [["the of </s>"]], tokenized=True))


def test_words_are_those_between_white_space() -> None:
    line = 'He said:  "Don\'t go (now)..."'
    tokens = Tokenizer(lowercase=True).tokenize(line)
    joined = words_of_tokens(line, tokens, lowercase=True)
    assert [(place, token) for (place, _), token in zip(joined, tokens, strict=True)] == [
        (1, "he"), (2, "said"), (2, ":"), (3, "``"), (3, "do"), (3, "n't"), (4, "go"),
        (5, "("), (5, "now"), (5, ")"), (5, "..."), (5, "''"),
    ]  # fmt: skip
    assert [text for _, text in joined][3] == "\"Don't"


@given(st.text(st.sampled_from("aΣİßſ.'\"`,:()-—。中 \t\x1c\u2028nNtTsS<>&…")), st.booleans(), st.booleans())
def test_every_word_of_any_line_is_joined_with_its_own_tokens(line: str, lowercase: bool, by_character: bool) -> None:
    tokens = Tokenizer(lowercase, by_character).tokenize(line)
    joined = words_of_tokens(line, tokens, lowercase)
    words = line.split()
    assert [place for place, _ in groupby(place for place, _ in joined)] == list(range(1, len(words) + 1))
    quoted = {"``": '"', "''": '"'}
    for (place, text), own in groupby(zip(joined, tokens, strict=True), key=lambda pair: pair[0]):
        assert text == words[place - 1]
        # Two apostrophes or backticks may have been written as such, too.
        parts = [quoted.get(token, token) for _, token in own]
        written = (text.lower() if lowercase else text).replace("''", '"').replace("``", '"')
        assert "".join(parts).replace("ς", "σ") == written.replace("ς", "σ")
