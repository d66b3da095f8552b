"""Work spread over local processes, its results in the order of the work."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

from pipeline.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED = 2  # items waiting for each worker: enough that none idles, few enough that memory does not grow with the work


def available_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def ordered_map(make: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `make()(item)` of every item, in the order of the items, so that nothing depends on `workers`.

    Items are read only as fast as they are worked off. One worker, or one item, is worked off in this process.

    Args:
        make: picklable; called once in each process, for what is slow to set up.
        items: picklable, as are the results.
        workers: number of processes.

    Raises:
        InputError: a worker was killed.
        Exception: what `make`, the function it made or the iteration of `items` raises.
    """
    items = iter(items)
    head = list(islice(items, 2))
    items = chain(head, items)
    if workers == 1 or len(head) < 2:
        yield from map(make(), items)
        return
    # Not `fork`: the parent may have threads by now (Arrow's, the progress bar's). The server imports once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(make, "func", make).__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(make,))
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) >= workers * QUEUED:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, most likely for lack of memory; free memory and run again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_make: Callable[[], Callable] | None = None
_function: Callable | None = None


def _start(make: Callable[[], Callable]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _make
    _make = make


def _end_with_parent() -> None:
    """Without this, the workers of a killed process wait for ever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _call(item: object) -> object:
    # Made here and not in `_start`: what a pool's initializer raises is lost.
    global _function
    if _function is None:
        assert _make
        _function = _make()
    return _function(item)
