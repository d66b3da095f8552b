"""A web application on this machine only: one process, one port, until a signal ends it.

The application runs in this process, so nothing of it is left when the process has ended, and no other port or process
is there to be reached beside it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.runtime.errors import InputError
from pipeline.runtime.stopping import stop_asked

# What ASGI (asgi.readthedocs.io) calls an application, and what it is called with.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"
MOST_CONNECTIONS = 500  # at a time; for one more, the one is cut that has kept the server waiting longest
MOST_WORKING = 700  # of which no more is asked; below the usual limit of 1,024 open files
IDLE_SECONDS = 10  # that a connection may take to send the head of a request, or to fetch what it was answered
LARGEST_LOG = 1_000_000  # bytes; the one before it is kept
STOP_SECONDS = 2  # that answers under way get when the server is stopped


def listen(port: int, command: str) -> socket.socket:
    """A socket that admits connections from this machine; they wait until the application runs.

    Raises:
        InputError: the port is taken; `command` is what the user is told to run with another.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(MOST_CONNECTIONS)
    except OSError:
        listener.close()
        raise InputError(f"port {port} is taken; choose another: {command} --port {port + 1}") from None
    return listener


def serve(app: App, listener: socket.socket, log: Path) -> None:
    """Serve `app` until a signal comes that `stopping` heeds; what the server has to say goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    logger = {"handlers": ["file"], "level": "INFO", "propagate": False}
    config = uvicorn.Config(
        app,
        http=_ImpatientProtocol,
        ws="none",
        log_config={
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
            "handlers": {
                "file": {
                    "class": "logging.handlers.RotatingFileHandler",
                    "filename": str(log),
                    "maxBytes": LARGEST_LOG,
                    "backupCount": 1,
                    "formatter": "line",
                }
            },
            "loggers": {"uvicorn": logger, "uvicorn.access": logger},
        },
        access_log=False,  # addresses may hold a secret
        server_header=False,
        limit_concurrency=MOST_WORKING,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's, but signals are left to those who heed them, SIGHUP included."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        return stop_asked() or await super().on_tick(counter)


class _ImpatientProtocol(H11Protocol):
    """uvicorn's, but a connection is cut whose client keeps it waiting for `IDLE_SECONDS`, twice that at most.

    uvicorn waits for ever for a request, head and body, and for a client to take its answer; and where there are too
    many connections it refuses who comes, not who keeps it waiting.
    """

    _watch: asyncio.TimerHandle | None = None
    _seen: object = None
    _since = 0.0  # when it was made, or last answered

    def connection_made(self, transport: asyncio.Transport) -> None:
        waited_for = [one for one in self.connections if isinstance(one, _ImpatientProtocol) and one._keeps_waiting()]
        if len(self.connections) >= MOST_CONNECTIONS and waited_for:
            min(waited_for, key=lambda one: one._since).transport.abort()
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch_on()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def _keeps_waiting(self) -> bool:
        """Whether the client has yet to send something: a request, or the rest of one."""
        if self.transport.is_closing():
            return False
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _watch_on(self) -> None:
        self._watch = self.loop.call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        working = self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)
        if not working and self.cycle is self._seen:
            self.transport.abort()
        else:
            self._seen = None if working else self.cycle
            self._watch_on()
