"""Work on a Dask cluster that the environment names: used as it is, and missed in one line where it is not there."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from dask import config
from distributed import CancelledError, Client, LocalCluster, Security, Worker
from distributed.comm.core import CommClosedError

from pipeline.runtime import parallel
from pipeline.runtime.errors import InputError
from pipeline.runtime.parallel import ordered_map
from tests.conftest import PROJECT
from tests.runtime.jobs import add, divide, process_of


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
    made: Any = Security.temporary()
    other: Any = Security.temporary()
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
