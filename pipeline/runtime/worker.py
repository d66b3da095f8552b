"""What a Dask worker holds for parallel.py."""

import threading
from collections.abc import Callable

from distributed import WorkerPlugin


class Maker(WorkerPlugin):
    """The function that a worker applies to its items, made when the first one comes.

    Not in `setup`: what that raises, a user would never see.
    """

    def __init__(self, make: Callable[[], Callable]) -> None:
        self._make = make
        self._made: Callable | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> object:
        return self._make

    def __setstate__(self, make: Callable[[], Callable]) -> None:
        self.__init__(make)

    def call(self, item: object) -> object:
        """The function's result for `item`."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return self._made(item)
