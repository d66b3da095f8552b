"""A web application in a process of ours: answers, ends on any signal, and lets no idle client hold a connection."""

import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.runtime import web
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT

SERVER = """
import sys
from pathlib import Path
from pipeline.runtime import web
from pipeline.runtime.stopping import stopped_by_signals

async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

web.IDLE_SECONDS = float(sys.argv[2])
web.MOST_CONNECTIONS, web.MOST_WORKING = 20, 40
with stopped_by_signals(), web.listen(0, "serve") as listener:
    print(listener.getsockname()[1], flush=True)
    web.serve(app, listener, Path(sys.argv[1]))
"""


@contextmanager
def served(folder: Path, idle_seconds: float = 0.5) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    command = [sys.executable, "-c", SERVER, str(folder / "log"), str(idle_seconds)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(web.HOST, port, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_answers_on_one_port_of_this_machine_until_a_signal_comes(number: signal.Signals, tmp_path: Path) -> None:
    with served(tmp_path) as (port, process):
        assert get(port, "/a") == b"/a"
        listening = [one.laddr for one in psutil.Process(process.pid).net_connections() if one.status == "LISTEN"]
        assert listening == [(web.HOST, port)]
        assert psutil.Process(process.pid).children() == []
        process.send_signal(number)
        process.wait(60)
        with pytest.raises(ConnectionRefusedError):
            get(port, "/b")


BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\nbody"


@pytest.mark.parametrize("sent", [b"GET / HT", BEGUN], ids=["half a head", "half a body"])
def test_who_sends_too_slowly_is_cut_off_and_others_are_answered(tmp_path: Path, sent: bytes) -> None:
    with served(tmp_path) as (port, _), socket.create_connection((web.HOST, port), timeout=0.1) as slow:
        slow.sendall(sent)
        assert get(port, "/meanwhile") == b"/meanwhile"
        end, cut = time.monotonic() + 60, False
        while not cut and time.monotonic() < end:  # a byte now and then
            try:
                slow.sendall(b"x")
                cut = slow.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                cut = True
        assert cut


@pytest.mark.parametrize("sent", [b"", BEGUN[:20], BEGUN], ids=["nothing", "half a head", "half a body"])
def test_however_many_keep_their_connection_others_are_answered(tmp_path: Path, sent: bytes) -> None:
    with served(tmp_path, idle_seconds=1000) as (port, _), ExitStack() as held:
        for number in range(60):
            connection = held.enter_context(socket.create_connection((web.HOST, port), timeout=60))
            connection.sendall(sent)
            if not number % 10:
                assert get(port, f"/{number}") == f"/{number}".encode()


def test_a_taken_port_is_named() -> None:
    with web.listen(0, "rnnlm ui") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is taken; choose another: rnnlm ui --port {port + 1}"):
            web.listen(port, "rnnlm ui")
