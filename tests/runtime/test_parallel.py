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
from typing import Any, cast
from unittest.mock import Mock

import psutil
import pytest
from dask import config
from distributed import CancelledError, Client, LocalCluster, Security, Worker
from distributed.comm.core import CommClosedError
from distributed.process import AsyncProcess

from pipeline.runtime import parallel
from pipeline.runtime.errors import InputError
from pipeline.runtime.parallel import FEW, QUEUED, ordered_map
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
        mine.close()  # pyright: ignore[reportAttributeAccessIssue]
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
    monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "1")
    for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "carrier-pigeon://roof"):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(InputError, match=f"cannot reach a Dask scheduler at {address} .*; start it, or") as error:
            list(ordered_map(divide, [1], 2))
        assert "\n" not in str(error.value)
        # One that is closed by the garbage collection may wait for itself.
        assert {one.status for one in gc.get_objects() if issubclass(type(one), Client)} <= {"closed"}


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


def test_a_cluster_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "1")
    monkeypatch.setattr(parallel, "LOOK_SECONDS", 0.2)
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as cluster:
        address = str(cast(Any, cluster).scheduler_address)
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(InputError, match=f"the Dask scheduler at {address} has no workers; start some, or unset"):
            list(ordered_map(divide, [1], 2))
        cast(Any, cluster).scale(1)
        monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "30")
        results = ordered_map(partial(add, 1), count(), 2)
        assert next(results) == 1
        monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "1")
        cast(Any, cluster).scale(0)
        with pytest.raises(InputError, match=r"^all Dask workers went away; start some, and run again$"):
            list(results)


def test_a_worker_with_other_code_or_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", str(cast(Any, cluster).scheduler_address))
        versions = parallel._versions()
        for what in ("Python", "nltk", "our code"):
            monkeypatch.setattr(parallel, "_versions", lambda what=what: versions | {what: "none"})
            with pytest.raises(
                InputError, match=f"same version .*{what} is {versions[what]} there, none here"
            ) as error:
                list(ordered_map(divide, [1], 2))
            assert "\n" not in str(error.value)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """A process with a cluster, which the environment names."""
    script = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", process.stdout.readline().strip())
        yield process
        process.kill()


def test_a_cluster_with_certificates_is_used_by_those_who_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variables that docs/security.md names, which Dask reads when it is imported."""
    made, other = Security.temporary(), Security.temporary()
    for name, content in (("ca", made.tls_ca_file), ("key", made.tls_client_key), ("other", other.tls_ca_file)):
        (tmp_path / name).write_text(content)

    def trusting(authority: str) -> config.set:
        files = {"CA_FILE": authority, "CLIENT__CERT": "ca", "CLIENT__KEY": "key"}
        variables = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(tmp_path / file) for name, file in files.items()}
        return config.set(config.merge(config.config, config.collect_env(variables)))

    monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "2")
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tls", security=made
    ) as cluster:
        address = str(cast(Any, cluster).scheduler_address)
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with trusting("ca"):
            assert list(ordered_map(partial(add, 1), range(3), 1)) == [1, 2, 3]
        refused = r"^cannot reach a Dask scheduler at t(ls|cp)://[^\n]*; start it, or correct"
        with trusting("other"), pytest.raises(InputError, match=refused):
            list(ordered_map(partial(add, 1), range(3), 1))
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address.replace("tls", "tcp"))
        with trusting("ca"), pytest.raises(InputError, match=refused):
            list(ordered_map(partial(add, 1), range(3), 1))


def test_a_scheduler_that_is_killed_is_missed(
    scheduler: "subprocess.Popen[str]", capfd: pytest.CaptureFixture[str]
) -> None:
    results = ordered_map(partial(add, 1), count(), 2)
    assert next(results) == 1
    scheduler.kill()
    with pytest.raises(InputError, match=r"^the Dask scheduler went away; start it, and run again$"):
        list(results)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [CancelledError(), CommClosedError()])
def test_a_lost_scheduler_is_asked_nothing_more(error: Exception) -> None:
    """It would be waited for; other errors leave one that has to forget the function."""
    client = Mock(status="running")
    with pytest.raises(type(error)), parallel._on_every_worker(client, divide):
        raise error
    client.unregister_worker_plugin.assert_not_called()
    with pytest.raises(ZeroDivisionError), parallel._on_every_worker(client, divide):
        raise ZeroDivisionError
    client.unregister_worker_plugin.assert_called_once()


def test_a_scheduler_that_is_frozen_is_missed(
    scheduler: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "LOOK_SECONDS", 0.2)
    results = ordered_map(partial(add, 1), count(), 2)
    assert next(results) == 1
    scheduler.send_signal(signal.SIGSTOP)
    monkeypatch.setenv("RNNLM_SCHEDULER_SECONDS", "0.5")
    with pytest.raises(
        InputError, match=r"^the Dask scheduler has not answered for 0\.5 seconds; .* \(RNNLM_SCHEDULER_SECONDS sets"
    ):
        list(results)
    with pytest.raises(InputError, match=r"^cannot reach a Dask scheduler at tcp://.* \(TimeoutError\); start it"):
        list(ordered_map(divide, [1], 2))
    assert capfd.readouterr().err == ""


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
