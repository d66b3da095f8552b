"""SIGTERM, Ctrl-C and a closed terminal, noted in a flag; and child processes that end with this one.

A handler that raises an exception may do so inside a destructor, where Python swallows it, so handlers here only note
the signal and pass it on to children. Whoever works looks at the flag before each step.
"""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import psutil

from pipeline.runtime.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOKED_SECONDS = 0.1  # between two looks at the flag while a child runs
GROUP_SECONDS = 5  # for a stage to save what it has once its dvc has gone
KILLED_SECONDS = 1  # until the system has carried a kill out
LAST_SECONDS = 8  # after a signal, whatever this process is doing
# Starts a command with a guard beside it in its group, which waits for a line on the pipe that it is given. Where the
# pipe ends without a line, this process was killed, and the guard ends its group.
GUARDED = """
(read -r _ || { trap '' TERM; kill -TERM $$; sleep "$0"; kill -KILL 0; }) < "/dev/fd/$1" > /dev/null 2>&1 &
shift
exec "$@"
"""


class Stop:
    """Whether the process was asked to end, and by which `signal`."""

    signal: int | None = None

    def raise_if_asked(self, save: Callable[[], str]) -> None:
        """If a signal came, call `save`, which returns what becomes of the work so far, and raise StoppedError."""
        if self.signal is not None:
            saved = save()
            raise StoppedError(f"stopped by {signal.Signals(self.signal).name}; {saved}", self.signal)


# Signals come to the process, so this is the process's own; a block gives it back as it was.
_stop = Stop()
_children: set["subprocess.Popen[Any]"] = set()


def stop_asked() -> bool:
    """Whether a signal came that somebody heeds."""
    return _stop.signal is not None


def raise_if_stopped(then: str) -> None:
    """Raise StoppedError if a signal came; `then` says what becomes of the work so far."""
    _stop.raise_if_asked(lambda: then)


def end_at_once(status: int) -> NoReturn:
    """End the process with this status, without what Python does first: with torch and MLflow that takes seconds.

    On a busy machine it took more of them than the whole end of a retraining may.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the terminal may be gone
            stream.flush()
    os._exit(status)


@contextmanager
def heeded_signals() -> Iterator[Stop]:
    """Only note signals until the block ends; a second one ends the process as usual."""

    def heed(number: int) -> None:
        _stop.signal = number
        restore()

    with _fresh_stop() as stop, _handled(heed) as restore:
        yield stop


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """For a command with children: a signal is noted, said and passed on to them; a second one kills them.

    Whatever the process is doing, it ends at most `LAST_SECONDS` after the first signal, and no child outlives it.
    """

    def heed(number: int) -> None:
        again, _stop.signal = _stop.signal is not None, number
        _say(f"{signal.Signals(number).name}: ending")
        for child in list(_children):
            _signal_group(child, signal.SIGKILL) if again else child.terminate()

    with _fresh_stop(), _last_resort(), _handled(heed):
        yield


@contextmanager
def child(command: Sequence[str], **options: Any) -> "Iterator[subprocess.Popen[Any]]":
    """A process with a group of its own, which ends with the block, all that it has started included.

    It also ends where this process is killed: at once, and what it has started within `GROUP_SECONDS`.

    Args:
        command: program and arguments.
        options: of subprocess.Popen.

    Raises:
        OSError: the command cannot be started.
    """
    if shutil.which(command[0], path=(options.get("env") or os.environ).get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    read, write = os.pipe()
    try:
        guarded = ["sh", "-c", GUARDED, str(GROUP_SECONDS), str(read), *command]
        process = subprocess.Popen(guarded, start_new_session=True, pass_fds=[read], **options)
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    _children.add(process)
    try:
        if stop_asked():  # after the last look at the flag, and before the handler knew of this child
            process.terminate()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        with suppress(BrokenPipeError):  # the guard was killed with the others
            os.write(write, b"\n")
        os.close(write)
        _end_group(process)
        _children.discard(process)


def await_child(process: "subprocess.Popen[Any]") -> None:
    """Wait until a `child` has ended or a signal came."""
    while not stop_asked():
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOKED_SECONDS)
            return


def run_child(
    command: Sequence[str], given: bytes | None = None, seconds: float | None = None, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command as `child`, and capture what it prints unless `options` say otherwise.

    Args:
        command: program and arguments.
        given: standard input.
        seconds: that it may take; None: any number.
        options: of subprocess.Popen.

    Raises:
        OSError: the command cannot be started.
        StoppedError: a signal came.
        subprocess.TimeoutExpired: it took longer.
    """
    pipes = {"stdin": subprocess.DEVNULL if given is None else subprocess.PIPE}
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    printed = errors = None
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    with child(command, **pipes | options) as process:
        # Not until the pipes are closed: after a signal, what the child has started may hold them.
        while not stop_asked():
            try:
                printed, errors = process.communicate(given, min(LOOKED_SECONDS, max(end - time.monotonic(), 0)))
                break
            except subprocess.TimeoutExpired:
                given = None  # it is on its way
                if time.monotonic() >= end:
                    raise subprocess.TimeoutExpired(command, seconds or 0) from None
    raise_if_stopped("run the command again")
    return subprocess.CompletedProcess(command, process.returncode, printed or b"", errors or b"")


@contextmanager
def _fresh_stop() -> Iterator[Stop]:
    global _stop
    before, _stop = _stop, Stop()
    try:
        yield _stop
    finally:
        _stop = before


@contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Give signals to `handle` until the block ends, or until what it yields is called."""
    # nohup has SIGHUP ignored, and means it.
    heeded = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: handle(number)) for number in heeded}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()


@contextmanager
def _last_resort() -> Iterator[None]:
    """End the process `LAST_SECONDS` after a signal, also where Python's handlers wait for a call that does not return.

    The system writes the number of each signal into a pipe, on which a thread waits.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    ended = threading.Event()

    def watch() -> None:
        while number := os.read(read, 1):
            if number[0] in SIGNALS and not ended.wait(LAST_SECONDS):
                for process in list(_children):
                    _signal_group(process, signal.SIGKILL)
                    _await_group(process, KILLED_SECONDS)
                name = signal.Signals(number[0]).name
                _say(f"error: stopped by {name} in the middle of a step; run the command again")
                os._exit(128 + number[0])

    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="last resort", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def _say(line: str) -> None:
    # Not `print`, which fails inside of a handler that has interrupted another `print`.
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"{line}\n".encode())


def _end_group(process: "subprocess.Popen[Any]") -> None:
    """Give a process that was told to end, and those that it has started, a moment to do so, and kill what is left."""
    _await_group(process, GROUP_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()
    _await_group(process, KILLED_SECONDS)


def _await_group(process: "subprocess.Popen[Any]", seconds: float) -> None:
    end = time.monotonic() + seconds
    while _group_lives(process) and time.monotonic() < end:
        time.sleep(0.02)


def _group_lives(process: "subprocess.Popen[Any]") -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # macOS says so of a group of which only a zombie is left
    for other in psutil.process_iter():
        with suppress(OSError, psutil.Error):  # it went meanwhile
            if os.getpgid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _signal_group(process: "subprocess.Popen[Any]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
