"""Signals that are noted and never lost, and children that never outlive who started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.runtime import stopping
from pipeline.runtime.errors import StoppedError
from pipeline.runtime.stopping import child, heeded_signals, raise_if_stopped, run_child, stopped_by_signals
from tests.conftest import PROJECT

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
# A grandchild beside the child, whose ids are said as soon as all is ready.
FAMILY = 'trap "" HUP INT; sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; echo ready; wait'
HEAD = """
import os, signal, sys, threading, time
from pipeline.runtime import stopping
from pipeline.runtime.stage import run
from pipeline.runtime.stopping import *
stopping.GROUP_SECONDS = 0.5
"""


def start(body: str, folder: Path, **options) -> "subprocess.Popen[str]":
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return subprocess.Popen(
        [sys.executable, "-c", f"{HEAD}\ndef work():\n{lines}\nrun(work)\n"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def waited_for(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate()


def survivors(folder: Path) -> list[int]:
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "wait", ["run_child(['sh', '-c', FAMILY], stdout=None)", "with child(['sh', '-c', FAMILY]) as c: c.wait()"]
)
def test_a_child_ends_with_all_that_it_has_started(number: signal.Signals, wait: str, tmp_path: Path) -> None:
    process = start(
        f"FAMILY = {FAMILY!r}\nwith stopped_by_signals():\n    {wait}\n    raise_if_stopped('do it again')", tmp_path
    )
    waited_for(process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert errors.splitlines()[0] == f"{number.name}: ending"
    assert errors.splitlines()[1].startswith(f"error: stopped by {number.name}; ")
    assert survivors(tmp_path) == []


def test_a_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    deaf = FAMILY.replace("HUP INT", "HUP INT TERM")
    process = start(
        f"stopping.GROUP_SECONDS = 0.2\nwith stopped_by_signals():\n    with child(['sh', '-c', {deaf!r}]) as c:\n"
        "        while not stop_asked(): time.sleep(0.01)\n    raise_if_stopped('do it again')",
        tmp_path,
    )
    waited_for(process)
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert survivors(tmp_path) == []


@pytest.mark.parametrize("deaf", ["HUP INT", "HUP INT TERM"])
@pytest.mark.parametrize(
    "wait", ["run_child(['sh', '-c', FAMILY], stdout=None)", "with child(['sh', '-c', FAMILY]) as c: c.wait()"]
)
def test_nothing_outlives_a_process_that_is_killed(wait: str, deaf: str, tmp_path: Path) -> None:
    process = start(f"FAMILY = {FAMILY.replace('HUP INT', deaf)!r}\n{wait}", tmp_path)
    waited_for(process)
    assert len(survivors(tmp_path)) == 2
    process.kill()
    deadline = time.monotonic() + 60
    while survivors(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert survivors(tmp_path) == []
    process.communicate()


def test_a_second_signal_kills_the_children_at_once(tmp_path: Path) -> None:
    deaf = FAMILY.replace("HUP INT", "HUP INT TERM")
    process = start(
        f"stopping.GROUP_SECONDS = stopping.LAST_SECONDS = 1000\n"
        f"with stopped_by_signals():\n    run_child(['sh', '-c', {deaf!r}], stdout=None)",
        tmp_path,
    )
    waited_for(process)
    process.terminate()
    assert process.stderr
    assert process.stderr.readline() == "SIGTERM: ending\n"
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert survivors(tmp_path) == []


def test_a_process_ends_though_it_is_in_a_call_that_does_not_return(tmp_path: Path) -> None:
    process = start(
        "import hashlib\nstopping.LAST_SECONDS = 0.2\n"
        f"with stopped_by_signals(), child(['sh', '-c', {FAMILY!r}]):\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 31 - 1)",
        tmp_path,
    )
    waited_for(process)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    # On a busy machine the signal may come before that call, and be told.
    told = errors.removeprefix("SIGTERM: ending\n")
    assert told == "error: stopped by SIGTERM in the middle of a step; run the command again\n"
    assert survivors(tmp_path) == []


def test_a_signal_inside_a_destructor_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    class Fragile:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM; later$"), stopped_by_signals():  # noqa: PT012
        fragile = Fragile()
        del fragile
        raise_if_stopped("later")
    assert capfd.readouterr().err == "SIGTERM: ending\n"
    raise_if_stopped("never")  # it was that block's


def test_no_child_begins_its_work_after_a_signal(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), stopped_by_signals():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGHUP)
        run_child(["sh", "-c", f"sleep 1000; touch {tmp_path}/done"])
    assert not (tmp_path / "done").exists()


def test_handlers_are_given_back_and_who_runs_under_nohup_stays(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stopped_by_signals(), heeded_signals():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
    process = start(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nwith stopped_by_signals():\n"
        "    print('ready', flush=True)\n    input()\n    raise_if_stopped('do it again')",
        tmp_path,
        stdin=subprocess.PIPE,
    )
    waited_for(process)
    process.send_signal(signal.SIGHUP)
    assert process.communicate("on\n")[1] == ""
    assert process.returncode == 0


def test_what_a_child_prints_comes_back_and_a_limit_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GROUP_SECONDS", 0.2)
    done = run_child(["sh", "-c", "cat; echo bad >&2; exit 3"], given=b"good\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"good\n", b"bad\n")
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(["sh", "-c", FAMILY], seconds=0.5, cwd=tmp_path)
    assert not (tmp_path / "pids").exists() or survivors(tmp_path) == []
    with child(["sh", "-c", "sleep 1000 & exit 0"]) as leader:
        leader.wait()
    assert not stopping._group_lives(leader)
