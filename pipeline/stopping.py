"""Ending when asked to: signals that work heeds at a moment of its own choosing, and a parent that has gone."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from pipeline.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WATCHED_SECONDS = 0.5  # between two looks at the parent
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


class Stop:
    """Whether somebody asked the process to end.

    Attributes:
        signal: the one that was sent, or None.
    """

    signal: int | None = None

    def raise_if_asked(self, saved: str) -> None:
        """Raises StoppedError if a signal came; `saved` says what becomes of the work so far."""
        if self.signal is not None:
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
    for process in psutil.Process().parents():
        starters.append(process)
        if process.name() not in SHELLS:  # a shell between dvc and the stage would outlive dvc
            break

    def watch() -> None:
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in starters):
            pause.wait(WATCHED_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    pause = threading.Event()
    threading.Thread(target=watch, name="end-with-dvc", daemon=True).start()
