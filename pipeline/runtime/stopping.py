"""Ending when asked to: signals that work heeds at a moment of its own choosing, and a parent that has gone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from pipeline.runtime.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WATCHED_SECONDS = 0.5  # between two looks at the parent
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


class Stop:
    """Whether somebody asked the process to end.

    Attributes:
        signal: the one that was sent, or None.
    """

    signal: int | None = None

    def raise_if_asked(self, save: Callable[[], str]) -> None:
        """If a signal came, call `save`, which returns what becomes of the work so far, and raise StoppedError."""
        if self.signal is not None:
            saved = save()
            raise StoppedError(f"stopped by {signal.Signals(self.signal).name}; {saved}", self.signal)


@contextmanager
def heeded_signals() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C only take note, until the block ends; a second one ends the process as usual."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def heed(number: int, _: FrameType | None) -> None:
        stop.signal = number
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in SIGNALS:
        signal.signal(number, heed)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_dvc() -> None:
    """Send this process SIGTERM when the `dvc` that started it has gone.

    DVC, when it is killed, leaves its stage running, and the next `dvc repro` would start a second one beside it. Does
    nothing for a process that DVC did not start.
    """
    if "DVC_STAGE" not in os.environ:
        return
    starters: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):  # one that is gone already is the last of `starters`
        for process in psutil.Process().parents():
            starters.append(process)
            if process.name() not in SHELLS:  # a shell between dvc and the stage would outlive dvc
                break

    def watch() -> None:
        while all(map(_lives, starters)):
            time.sleep(WATCHED_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-dvc", daemon=True).start()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False
