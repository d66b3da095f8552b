"""The application behind `rnnlm serve`, asked without a network: the model's own answers, and the limits before it."""

import json
import math

import numpy as np
import pytest

from pipeline.inference.request import LARGEST_BODY
from pipeline.inference.server import application
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
    assert ask(app, b'{"inputs": [1]}')[0] == 400
    assert ask(app, b" " * (LARGEST_BODY + 1))[0] == 413
