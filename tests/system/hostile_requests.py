"""Clients of a server who mean it no good, one function for each way, and what became of them."""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
SECONDS = 60  # that a client waits for an answer


def post(body: bytes, length: int | None = None, head: str = "") -> bytes:
    """A request as it goes over the wire; `length` is what it says of itself."""
    said = len(body) if length is None else length
    lines = ["POST /invocations HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {said}{head}", "", ""]).encode() + body


def asking(inputs: list[str], **params: object) -> bytes:
    return post(json.dumps({"inputs": inputs, "params": params}).encode())


def chunked(chunk: bytes, count: int) -> Iterator[bytes]:
    yield post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for _ in range(count):
        yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def slowly(message: bytes, step: int = 1) -> Iterator[bytes]:
    for start in range(0, min(len(message), 40 * step), step):
        yield message[start : start + step]
        time.sleep(0.5)


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":1' % number for number in range(count)) + b"}"


def once(message: bytes) -> Iterator[bytes]:
    yield message


# Each gives what is sent, part by part.
WAYS: dict[str, Callable[[random.Random], Iterator[bytes]]] = {
    "a large body": lambda _: once(post(b" " * 20_000_000)),
    "a large body that is announced": lambda _: once(post(b"{", 10**12)),
    "a large body in chunks": lambda _: chunked(b" " * 65_536, 400),
    "many small chunks": lambda _: chunked(b" ", 20_000),
    "a slow head": lambda _: slowly(asking(["a"])),
    "a slow body": lambda _: slowly(asking(["a " * 50_000]), 100),
    "a body that stops": lambda _: once(post(b" " * 1_000_000, 1_900_000)),
    "no request": lambda _: slowly(b""),
    "unknown keys": lambda _: once(post(keys(180_000))),
    "keys without a value": lambda _: once(post(b'{"inputs":[' + b"[]," * 600_000 + b"1]}")),
    "numbers for texts": lambda _: once(post(b'{"inputs":[' + b"1," * 900_000 + b"1]}")),
    "a deep body": lambda _: once(post(b'{"inputs":' + b"[" * 900_000 + b"]" * 900_000 + b"}")),
    "a long number": lambda _: once(post(b'{"inputs":[],"params":{"seed":' + b"9" * 1_000_000 + b"}}")),
    "apostrophes": lambda _: once(asking(["'" * 100_000])),
    "apostrophes apart": lambda _: once(asking(["' " * 50_000])),
    "apostrophes within the limits": lambda _: once(asking(["'a" * 9_000])),
    "all tokens in one text": lambda _: once(asking(["a " * 19_990])),
    "all tokens in many texts": lambda _: once(asking(["a"] * 10_000)),
    "all suggestions": lambda _: once(asking(["a"] * 500, task="suggest", count=100)),
    "all words": lambda _: once(asking(["a"], task="generate", count=5, max_length=1000)),
    "NUL": lambda _: once(asking(["\0" * 90_000])),
    "not UTF-8": lambda rng: once(post(b'{"inputs":["' + rng.randbytes(1000) + b'"]}')),
    "noise": lambda rng: once(rng.randbytes(5000)),
    "a large head": lambda _: once(post(b"", head="\r\nX: " + "y" * 1_000_000)),
    "many requests at once": lambda _: once(asking(["a"]) * 200),
    "HTTP/1.0": lambda _: once(asking(["a"]).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "an upgrade": lambda _: once(post(b"", head="\r\nConnection: Upgrade\r\nUpgrade: websocket")),
}


def attack(port: int, way: str, rng: random.Random) -> str:
    """Do it once; the status of the answer, `cut` where there is none, `left` where it was not waited for."""
    try:
        with socket.create_connection((HOST, port), timeout=SECONDS) as connection:
            with_answer = rng.random() < 0.7
            for part in WAYS[way](rng):
                connection.sendall(part)
            if not with_answer:
                time.sleep(rng.random())
                return "left"
            answer = connection.recv(65_536)
            return answer[9:12].decode("latin-1") if answer else "cut"
    except TimeoutError:
        return "no answer"
    except OSError:
        return "cut"


@contextmanager
def attackers(port: int, count: int, seed: int) -> "Iterator[Counter[tuple[str, str]]]":
    """That many clients at a time until the block ends, each doing all in its own order; counts of what came of it."""
    seen: Counter[tuple[str, str]] = Counter()
    over = threading.Event()

    def client(rng: random.Random) -> None:
        while not over.is_set():
            for way in rng.sample(list(WAYS), len(WAYS)):
                if not over.is_set():
                    seen[way, attack(port, way, rng)] += 1

    threads = [threading.Thread(target=client, args=[random.Random(seed + number)]) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()
