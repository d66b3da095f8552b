"""An ASGI application asked without a network."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from pipeline.runtime.web import App, Message

JSON = ((b"content-type", b"application/json"),)


def ask(app: App, body: bytes, headers: Sequence[tuple[bytes, bytes]] = JSON) -> tuple[int, bytes]:
    """Status and body of the answer to a POST to /invocations."""
    answer: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answer.append(message)

    sent = [*headers, (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/invocations", "query_string": b""}
    scope |= {"raw_path": b"/invocations", "headers": sent, "scheme": "http", "root_path": ""}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}

    async def answered() -> None:
        await app(scope, receive, send)

    with suppress(Exception):  # what a server logs, after it has answered with status 500
        asyncio.run(answered())
    return answer[0]["status"], b"".join(part.get("body", b"") for part in answer)
