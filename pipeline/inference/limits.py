"""What a server of models admits, so that whatever is sent to it, memory stays flat and ordinary requests get through.

MLflow's server reads a body of any size, and works on as many requests at a time as come. Here a request passes, in
this order, limits of its bytes, counted while they come in; of what is in it; and of the work that waits already. Small
requests wait for small ones only: large ones have a lane of their own.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.inference.request import Request, check_body, check_tokens, read_request, refusal
from pipeline.runtime.errors import InputError
from pipeline.runtime.web import App, Message, Receive, Send

BODY_SECONDS = 10  # for a body to come in
ANSWER_SECONDS = 10  # for a client to take a part of its answer
WAIT_SECONDS = 20  # for a turn: where other processes take the processors, work that was admitted takes longer
SMALL_BODY = 65_536  # bytes; of larger bodies, only so many are held at a time
LARGE_BODIES = 8
# The unit of work is what a token to be scored costs, some 0.05 ms on two cores; a word to be
# generated costs more, a word that is suggested as much.
UNITS_PER_WORD = 4
UNITS_PER_REQUEST = 100  # reading it, and writing its answer
SMALL_WORK = 2_500  # units: some texts, or one completed in five ways of 100 words
SMALL_QUEUE = 8_000  # units that may be under way or wait in the lane of small requests
LARGE_QUEUE = 120_000  # and of the others: some of the largest requests that there can be


class BusyError(Exception):
    """Too much work waits already; `seconds` says when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too much work is waiting; try again in {seconds} seconds")
        self.seconds = seconds


class SlowError(Exception):
    """The body did not come in time."""

    def __init__(self) -> None:
        super().__init__(f"the request took more than {BODY_SECONDS} seconds to arrive")


class Lane:
    """Requests one after another; those that would have to wait for more than `most` units of work are refused.

    So are those that had to wait for `WAIT_SECONDS`.

    Args:
        most: units under way and waiting.
        seconds: after which a refused client is told to try again.
    """

    def __init__(self, most: int, seconds: int) -> None:
        self._most, self._seconds = most, seconds
        self._units = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, units: int) -> AsyncIterator[None]:
        """Wait for the turn of a request, which ends with the block.

        Raises:
            BusyError: too much work waits already, or the turn did not come.
        """
        if self._units and self._units + units > self._most:
            raise BusyError(self._seconds)
        self._units += units
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._turn.acquire()
            except TimeoutError:
                raise BusyError(self._seconds) from None
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._units -= units


class Limited:
    """`app`, MLflow's scoring server, behind the limits.

    Args:
        app: answers POST /invocations and pages without a body.
        tokens: splits each text; the second argument says that they are `tokenized`.
    """

    def __init__(self, app: App, tokens: Callable[[list[str], bool], Sequence[Sized]]) -> None:
        self._app, self._tokens = app, tokens
        self._large_bodies = 0
        # What is held while a large request is read is held once, and no small one waits for it.
        self._small_reader, self._large_reader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._small, self._large = Lane(SMALL_QUEUE, seconds=1), Lane(LARGE_QUEUE, seconds=10)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] != "/invocations" or scope["method"] != "POST":
            await self._app(scope, _given(b"", receive), send)
        else:
            try:
                await self._invoke(scope, receive, _timed(send))
            except InputError as error:
                await _refuse(send, *refusal(error))
            except BusyError as error:
                await _refuse(send, 429, _busy(error), [(b"retry-after", str(error.seconds).encode())])
            except SlowError as error:
                await _refuse(send, 408, _busy(error))

    async def _invoke(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        async with AsyncExitStack() as held:
            body = await self._body(receive, headers, held)
            if body is None:
                return
            loop = asyncio.get_running_loop()
            kind = headers.get(b"content-type", b"").decode("latin-1")
            reader = self._small_reader if len(body) <= SMALL_BODY else self._large_reader
            units = await loop.run_in_executor(reader, self._units, body, kind)
            lane = self._small if units <= SMALL_WORK else self._large
            turn = await held.enter_async_context(AsyncExitStack())
            await turn.enter_async_context(lane.turn(units))

            async def sent(message: Message) -> None:
                await turn.aclose()  # the work is done: a client that is slow to take its answer holds up nobody
                await send(message)

            await self._app({**scope, "headers": _json(scope["headers"])}, _given(body, receive), sent)

    async def _body(self, receive: Receive, headers: dict[bytes, bytes], held: AsyncExitStack) -> bytes | None:
        """The body, None where the client has gone."""
        length = headers.get(b"content-length", b"")
        if length.isdigit():
            check_body(int(length[:20]))
        body, large = bytearray(), False
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    body += message.get("body", b"")
                    check_body(len(body))
                    if len(body) > SMALL_BODY and not large:
                        if self._large_bodies >= LARGE_BODIES:
                            raise BusyError(seconds=BODY_SECONDS)
                        large = True
                        self._large_bodies += 1
                        held.callback(self._let_go)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise SlowError from None

    def _let_go(self) -> None:
        self._large_bodies -= 1

    def _units(self, body: bytes, content_type: str) -> int:
        request: Request = read_request(body, content_type)
        tokens = check_tokens(self._tokens(request.inputs, request.params.tokenized), request.params)
        return UNITS_PER_REQUEST + tokens + UNITS_PER_WORD * request.words + request.suggestions


def _given(body: bytes, receive: Receive) -> Receive:
    """A body that has been read already, and then what else the client does."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return messages.pop() if messages else await receive()

    return given


def _timed(send: Send) -> Send:
    """A client that does not take its answer is given up."""

    async def sent(message: Message) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            await send(message)

    return sent


def _json(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers with the kind of content as MLflow spells it."""
    return [*(pair for pair in headers if pair[0] != b"content-type"), (b"content-type", b"application/json")]


def _busy(error: Exception) -> str:
    return json.dumps({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": str(error)})


async def _refuse(send: Send, status: int, body: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer, and cut the connection, so that nothing more of a body is read."""
    start = [(b"content-type", b"application/json"), (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body.encode()})
