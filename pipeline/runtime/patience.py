"""How long this project waits for others that may have fallen silent, and the environment variables that set it.

A limit of a socket holds between two bytes, so a server that sends one now and then holds up its reader for good. What
is here ends that too.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

from pipeline.runtime.errors import InputError

Piece = TypeVar("Piece")

TRANSFER = "RNNLM_TRANSFER_SECONDS"  # that a command may take to talk to a remote of git or DVC
TRANSFER_SECONDS = 1800.0
SCHEDULER_LIMIT = "RNNLM_SCHEDULER_SECONDS"  # that a scheduler of Dask has to answer, and its cluster to have a worker
SCHEDULER_SECONDS = 30.0
ANSWER_LIMIT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # of MLflow: seconds for which its server may say nothing
MESSAGE_SECONDS = 60.0  # for a whole exchange with that server, unless the variable has more
READER_SECONDS = 0.1  # between two looks at whether anybody still reads


def transfer_seconds() -> float:
    """How long a command may take that talks to a remote of git or DVC.

    Raises:
        InputError: the environment variable that sets it is not a positive number.
    """
    return _seconds(TRANSFER, TRANSFER_SECONDS)


def scheduler_seconds() -> float:
    """How long a scheduler of Dask may take for an answer.

    Raises:
        InputError: the environment variable that sets it is not a positive number.
    """
    return _seconds(SCHEDULER_LIMIT, SCHEDULER_SECONDS)


def exchange_seconds(address: str) -> float:
    """How long a whole exchange with MLflow's server, or the store of its files, may take, by the path of its address.

    Raises:
        InputError: the environment variable that sets it is not a positive number.
    """
    if "/api/" in address and "/mlflow-artifacts/" not in address:
        return max(MESSAGE_SECONDS, _seconds(ANSWER_LIMIT, MESSAGE_SECONDS))
    return transfer_seconds()


def in_time(pieces: Callable[[], Iterator[Piece]], seconds: float) -> Generator[Piece]:
    """What an iterator yields, made and read in a thread of its own, which is left behind where one takes too long.

    Args:
        pieces: makes the iterator.
        seconds: that each piece may take.

    Raises:
        TimeoutError: one took longer.
        BaseException: whatever the iterator raises.
    """
    read: Queue[tuple[list[Piece], BaseException | None]] = Queue(1)
    left = Event()

    def hand_over(piece: list[Piece], error: BaseException | None) -> None:
        while not left.is_set():
            with suppress(Full):
                read.put((piece, error), timeout=READER_SECONDS)
                return

    def run() -> None:
        try:
            for piece in pieces():
                hand_over([piece], None)
                if left.is_set():
                    return
            hand_over([], None)
        except BaseException as error:  # it belongs to whoever reads
            hand_over([], error)

    Thread(target=run, name="in time", daemon=True).start()
    try:
        while True:
            piece, error = read.get(timeout=seconds)
            if error is not None:
                raise error
            if not piece:
                return
            yield piece[0]
    except Empty:
        raise TimeoutError(f"too slow, or silent, for {seconds:g} seconds") from None
    finally:
        left.set()


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable) or str(default)
    with suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise InputError(f"{variable} is {text!r}; set it to a number of seconds above 0")
