"""Typing into `rnnlm play`: what is shown after each key, through a pipe in place of a terminal."""

from collections.abc import Sequence

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from pipeline.inference.play import SHOWN, Play, play
from pipeline.runtime.errors import InputError

UP, DOWN, END = "\x1b[A", "\x1b[B", "\x03"


def typed(keys: str, models: dict) -> Play:
    """The state after keys, and Ctrl-C, in a project with such models."""
    with create_pipe_input() as source:
        source.send_text(keys + END)
        return play(list(models), models.__getitem__, source, DummyOutput())


def shown(state: Play) -> str:
    return "".join(part[1] for part in state.words())


def suggested(predictor, words: Sequence[str]) -> list[tuple[str, float]]:
    return predictor.suggest([words], len(predictor.vocabulary))[0]


def test_words_that_may_follow_are_shown_with_their_probabilities(make_predictor) -> None:
    models = {"lstm": make_predictor("lstm"), "gru": make_predictor("gru")}
    state = typed("This is ", models)
    assert state.buffer.text == "This is "
    expected = suggested(models["lstm"], ["this", "is"])[:SHOWN]
    assert state.expected() == expected
    lines = shown(state).splitlines()
    assert [line.split()[:2] for line in lines] == [[word, f"{p:.2%}"] for word, p in expected]
    assert lines[0].count("█") == round(30 * expected[0][1])


def test_a_word_that_has_begun_is_completed_by_those_that_begin_so(make_predictor) -> None:
    predictor = make_predictor()
    state = typed("this is T", {"lstm": predictor})
    expected = [pair for pair in suggested(predictor, ["this", "is"]) if pair[0].startswith("t")]
    assert len(expected) > 2
    assert state.expected() == expected[:SHOWN]
    state.take()
    assert state.buffer.text == f"this is T{expected[0][0][1:]} "
    assert "knows no word that begins so" in shown(typed("this zq", {"lstm": predictor}))


@pytest.mark.parametrize(("keys", "model"), [("", "rnn"), (DOWN, "lstm"), (DOWN * 3, "rnn"), (UP, "gru")])
def test_a_key_switches_models(keys: str, model: str, make_predictor) -> None:
    models = {name: make_predictor(name) for name in ("rnn", "lstm", "gru")}
    state = typed("the " + keys, models)
    assert state.model == model
    for _ in models:  # what one expects is never shown as another's
        assert state.expected() == suggested(models[state.model], ["the"])[:SHOWN]
        state.switch(1)


def test_the_first_word_is_taken_with_a_key_and_marks_stand_on_words(make_predictor) -> None:
    predictor = make_predictor()
    word = suggested(predictor, ["the"])[0][0]
    assert typed("the \t", {"lstm": predictor}).buffer.text == f"the{'' if word in ',.?' else ' '}{word} "
    state = Play(["lstm"], {"lstm": predictor}.__getitem__)
    state.buffer.text = "the "
    state.expected = lambda count=SHOWN: [(",", 0.5)]
    state.take()
    assert state.buffer.text == "the, "


def test_a_damaged_model_is_told_and_the_others_go_on(make_predictor) -> None:
    def load(name: str):
        if name == "lstm":
            raise InputError("config.json is missing")
        return make_predictor()

    state = Play(["lstm", "gru"], load)
    assert shown(state) == "  config.json is missing"
    state.switch(1)
    assert len(shown(state).splitlines()) == SHOWN
