"""What a server admits, in which order, and that clients who are slow or want much hold up nobody else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pipeline.inference import limits
from pipeline.inference.limits import LARGE_BODIES, LARGE_QUEUE, SMALL_BODY, SMALL_QUEUE, SMALL_WORK, Limited
from pipeline.inference.request import LARGEST_BODY, MOST_TOKENS
from pipeline.runtime.web import App, Message

SMALL, LARGE = "a", " ".join(["a"] * SMALL_WORK)
JSON = [(b"content-type", b"application/json")]


class Answering:
    """An application that answers when it is told to, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.asked.append(json.loads(body)["inputs"][0] if body else scope["path"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Client:
    """A client of `app`: sends the parts of a body, and takes the answer unless it is `stuck`."""

    def __init__(
        self, parts: list[bytes], headers: list[tuple[bytes, bytes]] = JSON, path: str = "/invocations"
    ) -> None:
        self.parts, self.headers, self.path = parts, headers, path
        self.sent = 0
        self.stuck = self.silent = False
        self.answer: list[Message] = []

    async def receive(self) -> Message:
        if self.silent:
            await asyncio.Event().wait()
        part = self.parts[self.sent % len(self.parts)]
        self.sent += 1
        return {"type": "http.request", "body": part, "more_body": self.sent < len(self.parts)}

    async def send(self, message: Message) -> None:
        self.answer.append(message)
        if self.stuck:
            await asyncio.Event().wait()

    async def ask(self, app: App) -> int:
        scope = {"type": "http", "method": "POST", "path": self.path, "headers": self.headers}
        await app(scope, self.receive, self.send)
        return self.status

    @property
    def status(self) -> int:
        return self.answer[0]["status"] if self.answer else 0


def client(*texts: str, **params: Any) -> Client:
    return Client([json.dumps({"inputs": texts, "params": params}).encode()])


def run(work: Callable[[Answering, Limited], Awaitable[None]]) -> None:
    async def main() -> None:
        app = Answering()
        async with asyncio.timeout(60):
            await work(app, Limited(app, lambda texts, tokenized: [text.split() for text in texts]))

    asyncio.run(main())


async def settled(*tasks: "asyncio.Task[int]") -> None:
    """Wait until nothing of `tasks` goes on: what they read is read in a thread."""
    for _ in range(20):
        await asyncio.wait(tasks, timeout=0.01)


def passes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have so many seconds pass at once."""
    loop = asyncio.get_running_loop()
    before = loop.time
    monkeypatch.setattr(loop, "time", lambda: before() + seconds)


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_refused_before_the_rest_is_read(declared: bool) -> None:
    async def work(app: Answering, limited: Limited) -> None:
        length = [(b"content-length", b"%d" % (100 * LARGEST_BODY))] if declared else []
        sender = Client([b" " * 1_000_000] * 200, JSON + length)
        assert await sender.ask(limited) == 413
        assert sender.sent <= (0 if declared else 3)
        assert (b"connection", b"close") in sender.answer[0]["headers"]
        assert json.loads(sender.answer[1]["body"])["message"] == "a request has at most 2000000 bytes; send several"
        assert app.asked == []

    run(work)


@pytest.mark.parametrize("length", [b"-1", b"", b"1e9", b"0x10", b"\xb2", b"9" * 5000])
def test_a_strange_length_is_no_way_around(length: bytes) -> None:
    async def work(app: Answering, limited: Limited) -> None:
        assert await Client([b" " * 1_000_000] * 9, [*JSON, (b"content-length", length)]).ask(limited) == 413

    run(work)


def test_too_many_tokens_never_reach_the_model() -> None:
    async def work(app: Answering, limited: Limited) -> None:
        app.go.set()
        assert await client("a " * MOST_TOKENS).ask(limited) == 413
        assert await client("a", task="generate", count=100, max_length=1000).ask(limited) == 413
        assert await client("a", task="sing").ask(limited) == 400
        assert app.asked == []
        assert await client("a " * (MOST_TOKENS - 1)).ask(limited) == 200

    run(work)


def test_a_small_request_waits_for_no_large_one() -> None:
    async def work(app: Answering, limited: Limited) -> None:
        large = [asyncio.create_task(client(LARGE).ask(limited)) for _ in range(3)]
        await settled(*large)
        assert app.asked == [LARGE]
        small = [asyncio.create_task(client(SMALL).ask(limited)) for _ in range(2)]
        await settled(*small)
        assert app.asked == [LARGE, SMALL]  # one of each kind at a time
        app.go.set()
        assert await asyncio.gather(*large, *small) == [200] * 5

    run(work)


@pytest.mark.parametrize("text", [SMALL, LARGE])
def test_where_the_machine_is_too_busy_for_its_turn_to_come_a_request_is_told_to_come_again(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAIT_SECONDS", 40)

    async def work(app: Answering, limited: Limited) -> None:
        first, second = (asyncio.create_task(client(text).ask(limited)) for _ in range(2))
        await settled(first, second)
        passes(monkeypatch, 30)
        await settled(first, second)
        assert not second.done()
        passes(monkeypatch, 10)
        await settled(first, second)
        assert second.done()
        assert second.result() == 429
        app.go.set()
        assert await first == 200  # it is under way, however long that takes
        assert await client(text).ask(limited) == 200
        assert len(app.asked) == 2

    run(work)


@pytest.mark.parametrize(("text", "most", "seconds"), [(SMALL, SMALL_QUEUE, b"1"), (LARGE, LARGE_QUEUE, b"10")])
def test_when_too_much_work_waits_the_rest_is_told_to_come_again(text: str, most: int, seconds: bytes) -> None:
    async def work(app: Answering, limited: Limited) -> None:
        units = len(text.split()) + 1 + limits.UNITS_PER_REQUEST
        clients = [client(text) for _ in range(most // units + 5)]
        tasks = [asyncio.create_task(each.ask(limited)) for each in clients]
        await settled(*tasks)
        refused = [each for each in clients if each.status == 429]
        assert len(refused) == 5
        assert all((b"retry-after", seconds) in each.answer[0]["headers"] for each in refused)
        app.go.set()
        assert sorted(await asyncio.gather(*tasks)) == [200] * (len(clients) - 5) + [429] * 5
        assert await client(text).ask(limited) == 200  # what has been answered waits no longer

    run(work)


def test_a_client_that_does_not_take_its_answer_holds_up_nobody_and_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(app: Answering, limited: Limited) -> None:
        app.go.set()
        stuck = client(SMALL)
        stuck.stuck = True
        waiting = asyncio.create_task(stuck.ask(limited))
        await settled(waiting)
        assert stuck.status == 200
        assert await client(SMALL).ask(limited) == 200
        assert not waiting.done()
        waiting.cancel()
        monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.1)
        with pytest.raises(TimeoutError):
            await stuck.ask(limited)

    monkeypatch.setattr(limits, "ANSWER_SECONDS", 50)
    run(work)


def test_a_client_that_does_not_send_its_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.1)

    async def work(app: Answering, limited: Limited) -> None:
        silent = client(SMALL)
        silent.silent = True
        assert await silent.ask(limited) == 408

    run(work)


def test_few_large_bodies_are_held_and_small_ones_pass() -> None:
    async def work(app: Answering, limited: Limited) -> None:
        app.go.set()
        slow = [Client([b" " * (SMALL_BODY + 1), b"", b"{}"]) for _ in range(LARGE_BODIES)]
        for each in slow:
            each.parts = [each.parts[0]]
            receive = each.receive

            async def once(each: Client = each, receive: Any = receive) -> Message:
                if each.sent:
                    await asyncio.Event().wait()
                return await receive() | {"more_body": True}

            each.receive = once
        tasks = [asyncio.create_task(each.ask(limited)) for each in slow]
        await settled(*tasks)
        assert await client("a", *[" " * 50_000] * 2).ask(limited) == 429
        assert await client(SMALL).ask(limited) == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await client("a", *[" " * 50_000] * 2).ask(limited) == 200

    run(work)


@pytest.mark.parametrize("path", ["/ping", "/invocations/", "//invocations", "/openapi.json"])
def test_no_other_page_is_given_a_body(path: str) -> None:
    async def work(app: Answering, limited: Limited) -> None:
        app.go.set()
        sender = Client([b" " * 1_000_000] * 200, path=path)
        assert await sender.ask(limited) == 200
        assert sender.sent == 0
        assert app.asked == [path]

    run(work)
