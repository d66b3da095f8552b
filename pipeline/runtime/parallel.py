"""Work spread over processes by Dask, its results in the order of the work.

The processes are this machine's, or, where the environment variable DASK_SCHEDULER_ADDRESS names a scheduler, those of
its cluster, which must have this project installed in the same version.
"""

import itertools
import logging
import multiprocessing
import os
import pickle
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipeline.runtime.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

Item = TypeVar("Item")
Result = TypeVar("Result")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
QUEUED = 2  # items waiting for each worker: enough that none idles, few enough that memory does not grow with the work
FEW = 8  # this many items are done here before other processes would have started
CONNECT_SECONDS = 30
STARTING_SECONDS = 1.0  # until a process that is just being started exists, and can be ended
WORKER_NAME = "Dask Worker process (from Nanny)"  # what Dask calls the processes of a local cluster


def available_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function(item)` of every item, in the order of the items, so that nothing depends on who works.

    Items are read only as fast as they are processed. A worker that dies is replaced and its work redone. Without
    a cluster, little work, or work for one worker, is done in this process.

    Args:
        function: picklable; sent to each process once.
        items: picklable, as are the results.
        workers: number of processes on this machine.

    Raises:
        InputError: the scheduler cannot be reached, or an item kills every worker that it is given to.
        Exception: what `function` or the iteration of `items` raises.
    """
    items = iter(items)
    address = os.environ.get(SCHEDULER)
    if not address:
        head = list(itertools.islice(items, FEW + 1))
        few = len(head) <= FEW
        # An iterator lets go of its list at the list's end; `head` itself would hold these until the last is done.
        items = itertools.chain(iter(head), items)
        del head
        if workers == 1 or few:
            yield from map(function, items)
            return
    with _client(address, workers) as client, _on_every_worker(client, function) as name:
        from distributed import KilledWorker

        threads = cast("dict[str, int]", client.nthreads())
        window = QUEUED * max(sum(threads.values()), 1)
        waiting: deque[Future] = deque()
        try:
            for item in items:
                # Pickled here: Dask would look for futures of its own in every part of every item.
                waiting.append(client.submit(_call, name, pickle.dumps(item, pickle.HIGHEST_PROTOCOL), pure=False))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except KilledWorker:
            raise InputError(
                "worker processes were killed again and again, most likely for lack of memory; free some and run again"
            ) from None


@contextmanager
def _client(address: str | None, workers: int) -> "Iterator[Client]":
    from dask import config
    from distributed import Client, LocalCluster

    settings = {
        "distributed.comm.timeouts.connect": CONNECT_SECONDS,
        # Dask keeps its last messages in a log, up to 1,000 blocks of a corpus and as many results.
        "distributed.admin.low-level-log-length": 1,
        # It samples what a worker does a hundred times a second, which takes a tenth of the worker's time.
        "distributed.worker.profile.enabled": False,
    }
    with config.set(settings), warnings.catch_warnings():
        # Dask would warn that a long document is a large part of a graph, as it should be.
        warnings.filterwarnings("ignore", message="Sending large graph")
        if address:
            try:
                client = Client(address, timeout=CONNECT_SECONDS)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"cannot reach a Dask scheduler at {address} ({type(error).__name__}); start it, or correct or "
                    f"unset {SCHEDULER}"
                ) from None
            with client:
                yield client
            return
        before = multiprocessing.active_children()
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # any free port
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        )
        try:
            with Client(cluster, direct_to_workers=True) as client:
                yield client
        finally:
            _close(cluster, before)


def _close(cluster: "LocalCluster", before: list[BaseProcess]) -> None:
    """Close a cluster whatever its workers are doing; `before` are the children this process had before it."""
    try:
        cluster.close()
    except AssertionError:
        # "can only join a started process", says Dask while it is replacing a killed worker, and loses track of the new
        # process. So its workers are ended here, and the user is told what became of the work.
        time.sleep(STARTING_SECONDS)
        for process in multiprocessing.active_children():
            if process.name == WORKER_NAME and process not in before:
                process.kill()
                process.join()


@contextmanager
def _on_every_worker(client: "Client", function: Callable) -> Iterator[str]:
    """Put `function` on every worker, including those that join later, until the block ends; the name of its plugin."""
    from distributed import WorkerPlugin

    name = f"rnnlm-{uuid.uuid4().hex}"
    plugin: Any = WorkerPlugin()
    plugin.function = function
    client.register_plugin(plugin, name=name)
    try:
        yield name
    finally:
        if client.status == "running":
            client.unregister_worker_plugin(name)


def _call(name: str, item: bytes) -> object:
    from distributed import get_worker

    return cast(Any, get_worker().plugins[name]).function(pickle.loads(item))
