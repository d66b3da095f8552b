"""The application behind `rnnlm serve`, asked without a network: the model's own answers, and the limits before it."""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pipeline.inference import server
from pipeline.inference.request import LARGEST_BODY
from pipeline.inference.server import Content, Newer, Replaceable, application, following
from pipeline.runtime.errors import InputError
from tests.conftest import saved_model
from tests.inference.asgi import ask


def test_it_answers_as_the_model_does_and_refuses_before_mlflow_reads(make_predictor, vocabulary, make_model) -> None:
    app = application(saved_model(make_model(), vocabulary), np.array([7], np.uint64))

    texts = ["the of a", "is it?"]
    predictor = make_predictor()
    nats = predictor.nats(predictor.encode(predictor.tokens(texts)))
    status, answer = ask(app, json.dumps({"inputs": texts}).encode())
    assert status == 200
    assert [row["log_probability"] for row in json.loads(answer)["predictions"]] == pytest.approx((-nats).tolist())
    # qqa, qqb and the word of the corpus share what the model gives to unknown words.
    texts.append("qqa qqb qqa")
    asked = [ask(app, json.dumps({"inputs": texts, "params": {"over_types": over}}).encode()) for over in (False, True)]
    plain, shared = ([row["log_probability"] for row in json.loads(answer)["predictions"]] for _, answer in asked)
    assert shared == pytest.approx([*plain[:2], plain[2] - 3 * math.log(3)])
    asked = [
        ask(app, json.dumps({"inputs": ["The <unk> of"], "params": so}).encode()) for so in ({}, {"tokenized": True})
    ]
    assert [json.loads(answer)["predictions"][0]["tokens"] for _, answer in asked] == [6, 4]
    status, answer = ask(app, b'{"inputs": ["the <s>"], "params": {"tokenized": true}}')
    assert (status, json.loads(answer)["message"][:28]) == (400, "<s> is no word of tokenized ")
    assert ask(app, b'{"inputs": [1]}')[0] == 400
    assert ask(app, b" " * (LARGEST_BODY + 1))[0] == 413


@contextmanager
def looked_for(served: Replaceable, newer: Newer, looks: int) -> Iterator[None]:
    """Followed without a pause; the block begins after so many looks."""
    seen, enough = 0, threading.Event()

    def counted() -> Content | None:
        nonlocal seen
        seen += 1
        if seen > looks:
            enough.set()
            return None
        return newer()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "FOLLOWED_SECONDS", 0.001)
        with following(served, counted):
            assert enough.wait(60)
            yield


def answers(app: Replaceable) -> Callable[[], list[float]]:
    def asked() -> list[float]:
        status, answer = ask(app, b'{"inputs": ["the of a"]}')
        assert status == 200
        return [row["log_probability"] for row in json.loads(answer)["predictions"]]

    return asked


def test_another_model_answers_as_soon_as_it_is_the_one_to_be_served(
    vocabulary, make_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///where-the-champion-is-looked-for.db")
    models: list[Content] = [(saved_model(make_model(seed=seed), vocabulary), None) for seed in (1, 2)]
    served = Replaceable(application(*models[0]))
    first = answers(served)()
    with looked_for(served, iter([None, models[1]]).__next__, looks=2):
        assert answers(served)() == answers(Replaceable(application(*models[1])))() != first
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///where-the-champion-is-looked-for.db"


def test_a_request_is_answered_by_the_model_that_it_came_to() -> None:
    """While it waits, the model is replaced, and whoever comes then gets the other."""

    def named(name: bytes, before: Callable[[], None] = lambda: None):
        async def app(scope, receive, send) -> None:
            await receive()
            before()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": name})

        return app

    served = Replaceable(named(b"second"))
    later: list[tuple[int, bytes]] = []

    def replaced() -> None:
        served.app = named(b"second")
        asked = threading.Thread(target=lambda: later.append(ask(served, b"{}")))
        asked.start()
        asked.join()

    served.app = named(b"first", replaced)
    assert ask(served, b"{}") == (200, b"first")
    assert later == [(200, b"second")]


def test_a_store_that_fails_is_one_warning_and_the_model_is_served_on(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> Content | None:
        raise InputError("MLflow failed (http://user:secret@host/)")

    async def before(*_: object) -> None: ...

    served = Replaceable(before)
    with looked_for(served, failing, looks=3):
        assert served.app is before
    told = capsys.readouterr().err
    assert told.count("warning: the model of before is served on: MLflow failed") == 1
    assert "secret" not in told
