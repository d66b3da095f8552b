"""What no two processes may do at once in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.errors import InputError

LOCKS = Path(".rnnlm/locks")


@contextmanager
def one_at_a_time(lock: Path, taken: str, seconds: float = 0) -> Iterator[None]:
    """Hold the file `lock` until the block ends; the system lets go of it where the process is killed.

    Args:
        lock: the file, which stays.
        taken: what a person reads where another process holds it.
        seconds: to wait before that is said.

    Raises:
        InputError: another process holds it.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(lock).acquire(timeout=seconds)
    except Timeout:
        raise InputError(taken) from None
    with held:
        yield
