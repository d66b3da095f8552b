"""An HTTP server on loopback that answers each request with the next of some prepared answers, true or not."""

import re
import socketserver
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

from tests.text.sources.server import in_a_thread


class Asked(NamedTuple):
    """A request: where the wanted range begins, None where none is wanted, and the version it must be of."""

    start: int | None
    version: str


Answer = Callable[[Asked], bytes]


class Liar(socketserver.ThreadingTCPServer):
    """Sends the bytes that `answers` make of each request, then closes the connection; the last one stays."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/corpus.txt"

    def handle_error(self, request: object, client_address: object) -> None: ...  # of a client that has seen enough


class _Handler(socketserver.StreamRequestHandler):
    server: Liar  # pyrefly: ignore[bad-override-mutable-attribute]

    def handle(self) -> None:
        lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        asked = Asked(int(wanted[1]) if wanted else None, headers.get("if-range", ""))
        self.server.asked.append(asked)
        answers = self.server.answers
        self.wfile.write((answers.pop(0) if len(answers) > 1 else answers[0])(asked))


def lying() -> AbstractContextManager[Liar]:
    """A `Liar`, until the block ends."""
    return in_a_thread(Liar())


def message(status: int, body: bytes, **headers: object) -> bytes:
    """An answer as it goes over the wire; `_` in a header's name stands for `-`, and None leaves it out."""
    lines = [f"HTTP/1.1 {status} Said"]
    headers = {"Connection": "close", "Content_Length": len(body)} | headers
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# What comes first, and what then comes again and again.
TRICKLES = {
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\n \r\n",
    ),
}


class Trickler(socketserver.ThreadingTCPServer):
    """Answers without an end, a byte now and then, so that no limit between two bytes is ever reached."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Trickle)
        self.first, self.again = TRICKLES[kind]
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def shutdown(self) -> None:
        self.over.set()
        super().shutdown()


class _Trickle(socketserver.StreamRequestHandler):
    server: Trickler  # pyrefly: ignore[bad-override-mutable-attribute]

    def handle(self) -> None:
        self.rfile.readline()
        with suppress(OSError):
            self.wfile.write(self.server.first)
            while not self.server.over.wait(0.01):
                self.wfile.write(self.server.again)


def trickling(kind: str) -> AbstractContextManager[Trickler]:
    """A `Trickler`, until the block ends."""
    return in_a_thread(Trickler(kind))
