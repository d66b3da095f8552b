"""The application behind `rnnlm serve`, asked without a network: the model's own answers, and the limits before it."""

import asyncio
import json
from typing import Any

import pytest

from pipeline.inference.request import LARGEST_BODY
from pipeline.inference.server import application
from pipeline.runtime.web import Message
from tests.conftest import saved_model


def test_it_answers_as_the_model_does_and_refuses_before_mlflow_reads(make_predictor, vocabulary, make_model) -> None:
    app = application(saved_model(make_model(), vocabulary))

    def ask(body: bytes) -> tuple[int, Any]:
        answer: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            answer.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/invocations", "query_string": b""}
        scope |= {"raw_path": b"/invocations", "headers": headers, "scheme": "http", "root_path": ""}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        asyncio.run(app(scope, receive, send))
        return answer[0]["status"], json.loads(b"".join(part.get("body", b"") for part in answer))

    texts = ["the of a", "is it?"]
    predictor = make_predictor()
    nats = predictor.nats(predictor.encode(predictor.tokens(texts)))
    status, answer = ask(json.dumps({"inputs": texts}).encode())
    assert status == 200
    assert [row["log_probability"] for row in answer["predictions"]] == pytest.approx((-nats).tolist())
    assert ask(b'{"inputs": [1]}')[0] == 400
    assert ask(b" " * (LARGEST_BODY + 1))[0] == 413
