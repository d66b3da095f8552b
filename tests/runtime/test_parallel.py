import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from distributed import Client, LocalCluster, Worker

from pipeline.runtime import parallel
from pipeline.runtime.errors import InputError
from pipeline.runtime.parallel import FEW, QUEUED, available_workers, ordered_map
from tests.conftest import PROJECT


def add(amount: int, item: int) -> int:
    return amount + item


def process_of(_: int) -> int:
    return os.getpid()


def divide(item: int) -> float:
    return 6 / item


def kill(item: int) -> int:
    if item == 3 and multiprocessing.parent_process():  # not the process of the tests
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def kill_once(flag: Path, item: int) -> int:
    if item == 30 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 40])
def test_results_come_in_the_order_of_the_items(number: int, workers: int) -> None:
    found = ordered_map(partial(add, 1000), iter(range(number)), workers)
    assert list(found) == list(range(1000, 1000 + number))


@pytest.mark.parametrize(("workers", "number", "elsewhere"), [(1, 9, False), (2, 1, False), (2, 9, True)])
def test_other_processes_work_where_that_helps(workers: int, number: int, elsewhere: bool) -> None:
    processes = set(ordered_map(process_of, range(number), workers))
    assert (os.getpid() not in processes) is elsewhere
    assert len(processes) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_read_only_as_fast_as_they_are_worked_off(workers: int) -> None:
    worked_off = 0

    def endless() -> Iterator[int]:
        for item in count():
            assert item - worked_off <= max(FEW, workers * QUEUED)
            yield item

    results = ordered_map(partial(add, 0), endless(), workers)
    for expected in range(30):
        assert next(results) == expected
        assert len(multiprocessing.active_children()) <= workers
        worked_off += 1
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert multiprocessing.active_children() == []


class Parcel:
    """An item that one can see disappear."""

    def __init__(self, size: int) -> None:
        self.content = bytes(size)


def weigh(parcel: Parcel) -> int:
    return len(parcel.content)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_that_are_done_are_let_go(workers: int) -> None:
    """The first few too; and Dask by itself would keep the last thousand in a log of its messages."""
    size, seen, held = 200_000, [], []

    def parcels() -> Iterator[Parcel]:
        for _ in range(200):
            parcel = Parcel(size)
            seen.append(weakref.ref(parcel))
            yield parcel

    tracemalloc.start()
    try:
        for number, found in enumerate(ordered_map(weigh, parcels(), workers)):
            assert found == size
            if number in (40, 180):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
                assert [place for place, ref in enumerate(seen[: number - workers * QUEUED]) if ref()] == []
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 10 * size


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_comes_in_its_place(workers: int) -> None:
    results = ordered_map(divide, [1, 2, 0, *range(1, 20)], workers)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_items_raise_comes_through(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(30)
        raise InputError("cannot be read")

    with pytest.raises(InputError, match="cannot be read"):
        list(ordered_map(partial(add, 0), items(), workers))
    assert multiprocessing.active_children() == []


def test_an_item_that_kills_every_worker_is_an_input_error() -> None:
    with pytest.raises(InputError, match="killed again and again, most likely for lack of memory") as error:
        list(ordered_map(kill, range(20), 2))
    assert "\n" not in str(error.value)
    assert multiprocessing.active_children() == []


def test_a_cluster_that_cannot_be_closed_hides_no_result_and_costs_no_other_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Dask fails to close one while it is starting a worker."""
    monkeypatch.setattr(parallel, "STARTING_SECONDS", 0)
    names, processes = set(), []

    def start(name: str) -> None:
        processes.append(multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), name=name))
        processes[-1].start()

    close = LocalCluster.close

    def fail(self: LocalCluster) -> None:
        names.update(process.name for process in multiprocessing.active_children())
        close(self)
        start(parallel.WORKER_NAME)
        start("another")
        raise AssertionError("can only join a started process")

    monkeypatch.setattr(LocalCluster, "close", fail)
    start(parallel.WORKER_NAME)  # of another cluster
    try:
        assert list(ordered_map(partial(add, 1), range(FEW + 1), 2)) == list(range(1, FEW + 2))
        assert names == {parallel.WORKER_NAME}
        assert [process.is_alive() for process in processes] == [True, False, True]
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_a_killed_worker_is_replaced_and_its_work_done_again(tmp_path: Path) -> None:
    items = list(range(60))
    assert list(ordered_map(partial(kill_once, tmp_path / "killed"), items, 2)) == items
    assert (tmp_path / "killed").exists()
    assert multiprocessing.active_children() == []


def test_a_cluster_is_used_when_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", str(cast(Any, cluster).scheduler_address))
        processes = set(ordered_map(process_of, range(3), 1))
        assert os.getpid() not in processes
        assert list(ordered_map(partial(add, 1000), range(40), 1)) == list(range(1000, 1040))
        with pytest.raises(ZeroDivisionError):
            list(ordered_map(divide, [0], 1))
        plugins = cast("dict[str, list[str]]", client.run(plugin_names))
        # The cluster is left as it was found.
        assert all(not any(name.startswith("rnnlm") for name in names) for names in plugins.values())


def plugin_names(dask_worker: Worker) -> list[str]:
    return list(dask_worker.plugins)


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "carrier-pigeon://roof"):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(InputError, match=f"cannot reach a Dask scheduler at {address} .*; start it, or") as error:
            list(ordered_map(divide, [1], 2))
        assert "\n" not in str(error.value)


def test_workers_end_with_a_process_that_is_killed() -> None:
    script = "from tests.runtime.test_parallel import *\n"
    script += "for pid in ordered_map(process_of, count(), 2): print(pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        workers = {int(process.stdout.readline()) for _ in range(50)}
        process.kill()
    assert process.pid not in workers
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_as_many_workers_as_processors_allowed() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_workers() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert available_workers() == len(allowed)
