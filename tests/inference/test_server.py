"""The application behind `rnnlm serve`, asked without a network: the model's own answers, and the limits before it."""

import json

import pytest

from pipeline.inference.request import LARGEST_BODY
from pipeline.inference.server import application
from tests.conftest import saved_model
from tests.inference.asgi import ask


def test_it_answers_as_the_model_does_and_refuses_before_mlflow_reads(make_predictor, vocabulary, make_model) -> None:
    app = application(saved_model(make_model(), vocabulary))

    texts = ["the of a", "is it?"]
    predictor = make_predictor()
    nats = predictor.nats(predictor.encode(predictor.tokens(texts)))
    status, answer = ask(app, json.dumps({"inputs": texts}).encode())
    assert status == 200
    assert [row["log_probability"] for row in json.loads(answer)["predictions"]] == pytest.approx((-nats).tolist())
    assert ask(app, b'{"inputs": [1]}')[0] == 400
    assert ask(app, b" " * (LARGEST_BODY + 1))[0] == 413
