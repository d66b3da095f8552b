import gc
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from distributed.process import AsyncProcess

from pipeline.runtime import parallel
from pipeline.runtime.errors import InputError
from pipeline.runtime.parallel import FEW, QUEUED, ordered_map
from tests.conftest import PROJECT
from tests.runtime.jobs import add, divide, process_of


def kill(item: int) -> int:
    if item == 3 and multiprocessing.parent_process():  # not the process of the tests
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def kill_once(flag: Path, item: int) -> int:
    if item == 30 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [0, 1, 2, 40])
def test_results_come_in_the_order_of_the_items(number: int, workers: int) -> None:
    found = ordered_map(partial(add, 1000), iter(range(number)), workers)
    assert list(found) == list(range(1000, 1000 + number))


@pytest.mark.parametrize(("workers", "number", "elsewhere"), [(1, 9, False), (2, 1, False), (2, 9, True)])
def test_other_processes_work_where_that_helps(workers: int, number: int, elsewhere: bool) -> None:
    processes = set(ordered_map(process_of, range(number), workers))
    assert (os.getpid() not in processes) is elsewhere
    assert len(processes) <= workers


def test_workers_have_one_thread_each_and_what_starts_after_them_has_its_own(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # which Dask replaces
    before = dict(os.environ)
    threads = ordered_map(os.getenv, ["OMP_NUM_THREADS"] * 9, 2)
    assert next(threads) == "1"
    monkeypatch.setenv("RNNLM_TEST", "the caller's own, while workers work")
    assert set(threads) == {"1"}
    assert dict(os.environ) == before | {"RNNLM_TEST": "the caller's own, while workers work"}


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
    results.close()  # pyrefly: ignore[missing-attribute]
    assert multiprocessing.active_children() == []


class Parcel:
    """An item that one can see disappear."""

    def __init__(self, size: int) -> None:
        self.content = bytes(size)


def weigh(parcel: Parcel) -> int:
    return len(parcel.content)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_items_that_are_done_are_let_go(workers: int) -> None:
    """The first few too; and Dask by itself would keep the last thousand in a log of its messages."""
    size, seen, held = 200_000, [], []

    def parcels() -> Iterator[Parcel]:
        for _ in range(100):
            parcel = Parcel(size)
            seen.append(weakref.ref(parcel))
            yield parcel

    try:
        for number, found in enumerate(ordered_map(weigh, parcels(), workers)):
            if number == 20:  # not while the cluster starts, which would take ten times as long
                tracemalloc.start()
            assert found == size
            if number in (40, 90):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
                assert [place for place, ref in enumerate(seen[: number - workers * QUEUED]) if ref()] == []
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 10 * size


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_function_raises_comes_in_its_place(workers: int) -> None:
    results = ordered_map(divide, [1, 2, 0, *range(1, 20)], workers)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_items_raise_comes_through(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(30)
        raise InputError("cannot be read")

    with pytest.raises(InputError, match="cannot be read"):
        list(ordered_map(partial(add, 0), items(), workers))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_an_item_that_kills_every_worker_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parallel.DASK_SETTINGS, "distributed.scheduler.allowed-failures", 1)  # not three
    with pytest.raises(InputError, match="killed again and again, most likely for lack of memory") as error:
        list(ordered_map(kill, range(20), 2))
    assert "\n" not in str(error.value)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_cluster_that_cannot_be_closed_loses_its_processes_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Dask fails to close one while it is starting a worker; another was started after it."""
    mine, other = (ordered_map(process_of, iter(range(100)), 2) for _ in range(2))
    my_pids, other_pids = ({next(results) for _ in range(20)} for results in (mine, other))

    async def fail(self: AsyncProcess, timeout: float | None = None) -> None:
        for pid in my_pids:
            os.kill(pid, signal.SIGSTOP)  # they do not end by themselves
        raise AssertionError("can only join a started process")

    with monkeypatch.context() as broken:
        broken.setattr(AsyncProcess, "join", fail)
        broken.setattr(parallel, "STARTING_SECONDS", 0)
        mine.close()  # pyrefly: ignore[missing-attribute]
    assert not any(map(psutil.pid_exists, my_pids))
    assert all(map(psutil.pid_exists, other_pids))
    assert len(list(other)) == 80
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_work_done_again(tmp_path: Path) -> None:
    items = list(range(60))
    assert list(ordered_map(partial(kill_once, tmp_path / "killed"), items, 2)) == items
    assert (tmp_path / "killed").exists()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
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


def listening_ports() -> set[int]:
    me = psutil.Process()
    connections = [found for process in (me, *me.children(recursive=True)) for found in process.net_connections()]
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_other_users_of_the_machine_are_not_admitted(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can act as another user")
    other_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*other_user, sys.executable, "-c", "import distributed"], cwd=PROJECT).returncode:
        pytest.skip("another user cannot run this Python")

    def attack(flag: Path) -> str:
        command = [*other_user, sys.executable, "-m", "tests.runtime.intruder", str(flag)]
        ports = map(str, listening_ports() - before)
        return subprocess.run([*command, *ports], cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True).stdout

    before = listening_ports()
    with parallel._settings(), LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0"):
        pass  # which appends its pages to the settings
    with LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0"):
        answers = attack(tmp_path / "open")
        # What Dask does by itself: otherwise this test would prove nothing.
        assert "tcp identity" in answers
        assert "GET /status 200" in answers
        assert (tmp_path / "open").exists()

    before = listening_ports()  # its web page may take a while to go
    results = ordered_map(partial(add, 1), iter(range(40)), 2)
    assert next(results) == 1
    assert len(listening_ports() - before) >= 4  # of the scheduler, the workers and those who watch over them
    assert attack(tmp_path / "ours") == ""
    assert not (tmp_path / "ours").exists()
    assert list(results) == list(range(2, 41))


def own_folder(_: int) -> str:
    """The folder of this worker, from which it imports before all others."""
    return sys.path[0]


@pytest.mark.slow
def test_the_folder_of_a_cluster_is_its_owners() -> None:
    results = ordered_map(own_folder, iter(range(40)), 2)
    folder = Path(next(results))
    place = next(place for place in folder.parents if place.name.startswith("rnnlm-"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert sum(1 for found in results if Path(found).is_relative_to(place)) == 39
    assert not place.exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", ["ro", "size=64k"])
def test_work_is_done_without_shared_memory(options: str) -> None:
    """In 64 kB there is no room for the locks of six workers."""
    here = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", here], capture_output=True).returncode:
        pytest.skip("only root can mount a /dev/shm of its own")
    script = "from tests.runtime.test_parallel import *\nif __name__ == '__main__':\n"
    script += "    print(list(ordered_map(partial(add, 1), range(20), 6)))"
    command = ["unshare", "-m", "sh", "-c", f'{here} && "$0" -c "$1"', sys.executable, script]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{list(range(1, 21))}\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: no worker processes (OSError: [Errno ")
    assert line.endswith("); one process does all work")
