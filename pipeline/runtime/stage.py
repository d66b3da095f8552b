"""How a stage or command ends: on request, quietly, or with one clear line and a nonzero status."""

import errno
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.runtime.errors import InputError, StoppedError, one_line
from pipeline.runtime.locks import LOCKS, one_at_a_time
from pipeline.runtime.stopping import stop_asked
from pipeline.runtime.urls import without_secrets

LOCK_SECONDS = 20
WATCHED_SECONDS = 0.5  # between two looks at the parent
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})

FIXABLE: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space on the disk"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "fix the permissions"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (`ulimit -n`)"),
    errno.EFBIG: "allow larger files (`ulimit -f`)",
    errno.EEXIST: "something else has that name; move it or name another path",
    errno.ENOTDIR: "a file is where a folder should be; move it or name another path",
    errno.EISDIR: "a folder is where the file should be; move it or name another path",
    errno.ENAMETOOLONG: "use shorter names",
}
OUT_OF_MEMORY = "out of memory; use a smaller corpus, vocabulary, batch or hidden size, or a larger machine"


def run_stage(work: Callable[[], None]) -> None:
    """Like `run`, for a stage: it ends when its `dvc` does, and never runs twice at once in one folder."""
    name = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])

    def alone() -> None:
        _end_with_dvc()
        lock = LOCKS / f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)}.lock"
        taken = f"stage `{name}` is already running in this folder; wait until it has ended, or stop it, and run again"
        # A stage whose dvc was killed takes a moment to notice, and to save what it has.
        with one_at_a_time(lock, taken, LOCK_SECONDS):
            work()

    run(alone)


def run(work: Callable[[], None]) -> None:
    """Call `work`; turn what the user can fix into one line on standard error and exit status 1.

    An error's type and the system's number say what it is about, not words in its text, except where a library gives
    neither: torch's allocator and safetensors. Anything else is a bug and its traceback is printed. Whatever is
    printed, libraries' messages included, shows no secret of a URL.
    """
    try:
        work()
    except StoppedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(128 + error.signal)
    except InputError as error:
        sys.exit(without_secrets(f"error: {error}"))
    except Exception as error:
        if is_lack_of_memory(error):
            sys.exit(f"error: {OUT_OF_MEMORY}")
        if advice := FIXABLE.get(_system_number(error)):
            sys.exit(without_secrets(f"error: {one_line(error)}; {advice}, then run again"))
        sys.exit(without_secrets(traceback.format_exc()))


def is_lack_of_memory(error: Exception) -> bool:
    """Python, NumPy and Arrow raise kinds of MemoryError; torch has its own for a GPU."""
    if isinstance(error, (MemoryError, _kind("torch", "OutOfMemoryError"))):
        return True
    # torch's CPU allocator raises a bare RuntimeError, which only the place in torch's source at its beginning tells
    # from others.
    return type(error) is RuntimeError and str(error).startswith("[enforce fail at alloc_cpu.cpp:")


def _system_number(error: Exception) -> int | None:
    """The system's number for what went wrong; Arrow raises OSError too."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, _kind("safetensors", "SafetensorError")):
        # safetensors has the number in its message only: "I/O error: No space left on device (os error 28)".
        found = re.search(r"\(os error (\d+)\)", str(error))
        return int(found[1]) if found else None
    return None


def _kind(module: str, name: str) -> Any:
    """A module's type of error, or no type if the module was never imported, so that it cannot have raised one."""
    return getattr(sys.modules.get(module), name, ())


def _end_with_dvc() -> None:
    """Send this process SIGTERM when the `dvc` that started it has gone.

    A killed `dvc` leaves its stage running, and the next `dvc repro` would start a second one beside it. Does nothing
    for a process that DVC did not start.
    """
    if "DVC_STAGE" not in os.environ:
        return
    starters: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):  # one that has already gone is the last of `starters`
        for process in psutil.Process().parents():
            starters.append(process)
            if process.name() not in SHELLS:  # a shell between dvc and the stage would outlive dvc
                break

    def watch() -> None:
        while all(map(_lives, starters)):
            time.sleep(WATCHED_SECONDS)
        if not stop_asked():  # a second signal would cut short what the first one has it save
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-dvc", daemon=True).start()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False
