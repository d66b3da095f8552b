"""How a stage or a command ends: quietly, or with one clear line and a status that is not 0."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.runtime.errors import InputError, StoppedError

LOCKS = Path(".rnnlm/locks")
LOCK_SECONDS = 20
SPACE, PERMISSION = "free space on the disk", "mend the permissions"
FILES = "allow more open files (`ulimit -n`)"
MENDABLE = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: "allow larger files (`ulimit -f`)",
    errno.EROFS: PERMISSION,
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
}
OUT_OF_MEMORY = "out of memory; use a smaller corpus, vocabulary, batch or hidden size, or a larger machine"


def run_stage(work: Callable[[], None]) -> None:
    """As `run`, for a stage: it ends when its `dvc` does, and never runs twice at once in one folder."""
    name = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])

    def alone() -> None:
        from filelock import FileLock, Timeout

        from pipeline.runtime.stopping import end_with_dvc

        end_with_dvc()
        LOCKS.mkdir(parents=True, exist_ok=True)
        lock = FileLock(LOCKS / f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)}.lock")
        try:
            # A stage whose dvc was killed takes a moment to notice, and to save what it has.
            held = lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise InputError(
                f"stage `{name}` is running in this folder already; wait until it has ended, or stop it, and run again"
            ) from None
        with held:
            work()

    run(alone)


def run(work: Callable[[], None]) -> None:
    """Call `work`; turn what the user can mend into one line on standard error and exit status 1."""
    try:
        work()
    except StoppedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(128 + error.signal)
    except InputError as error:
        sys.exit(f"error: {error}")
    except MemoryError:
        sys.exit(f"error: {OUT_OF_MEMORY}")
    except Exception as error:
        text = " ".join(str(error).split())
        # torch's own: "can't allocate memory" of its CPU allocator, "out of memory" of CUDA's
        if isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text):
            sys.exit(f"error: {OUT_OF_MEMORY}")
        for number, advice in MENDABLE.items():
            # Libraries of other languages (Arrow, safetensors) keep the system's words, not its number.
            if getattr(error, "errno", None) == number or os.strerror(number) in text:
                sys.exit(f"error: {text}; {advice}, then run again")
        raise
