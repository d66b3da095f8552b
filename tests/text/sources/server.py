"""An HTTP server on loopback that misbehaves as it is told."""

import gzip
import hashlib
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)


class Server(ThreadingHTTPServer):
    """Serves `files`, by path.

    Attributes:
        files: content by path; may change while the server runs.
        requests: method, path and Range header of all that came, in order.
        dropping: of a path, how many answers break off half-way through what is left to send.
        answers: of a path, status codes to answer with, one a request, before the file itself.
        redirects: of a path, where it went.
        ranges: whether the server can send a part of a file.
        tags: whether it names versions (ETag).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.dropping: dict[str, int] = {}
        self.answers: dict[str, list[int]] = {}
        self.redirects: dict[str, str] = {}
        self.ranges = self.tags = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyrefly: ignore[bad-override-mutable-attribute]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.requests.append((self.command, self.path, self.headers["Range"]))
        if server.answers.get(path):
            self._answer(server.answers[path].pop(0))
        elif path in server.redirects:
            self._answer(302, Location=server.redirects[path])
        elif path == "/endless":
            self._answer(200, length=None)
            self.close_connection = True
            try:
                while body:
                    self.wfile.write(b"on and on\n" * 10_000)
            except OSError:
                pass
        elif path not in server.files:
            self._answer(404)
        else:
            self._send(path, server.files[path], body)

    def _send(self, path: str, content: bytes, body: bool) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start, headers = 0, {"ETag": tag} if self.server.tags else {}
        if wanted and self.server.ranges and self.headers["If-Range"] in (None, tag):
            start = int(wanted[1])
            if start >= len(content):
                self._answer(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        self._answer(206 if start else 200, length=len(rest), **headers)
        if not body:
            return
        if self.server.dropping.get(path, 0):
            self.server.dropping[path] -= 1
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
        else:
            self.wfile.write(rest)

    def _answer(self, status: int, length: int | None = 0, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def serving() -> AbstractContextManager[Server]:
    """A `Server`, until the block ends."""
    return in_a_thread(Server())


@contextmanager
def in_a_thread(made: AnyServer) -> Iterator[AnyServer]:
    """A server that answers in a thread of its own until the block ends, when it is closed."""
    with made as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def bomb(size: int) -> bytes:
    """A gzip file that is a thousandth of what it unpacks to: `size` bytes of short lines."""
    return gzip.compress(b"a b c d\n" * (size // 8))
