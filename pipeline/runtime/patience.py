"""How long this project waits for others that may have fallen silent, and the environment variables that set it."""

import os
from contextlib import suppress

from pipeline.runtime.errors import InputError

TRANSFER = "RNNLM_TRANSFER_SECONDS"  # that a command may take to talk to a remote of git or DVC
TRANSFER_SECONDS = 1800.0
SCHEDULER_LIMIT = "RNNLM_SCHEDULER_SECONDS"  # that a scheduler of Dask has to answer, and its cluster to have a worker
SCHEDULER_SECONDS = 30.0


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


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable) or str(default)
    with suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise InputError(f"{variable} is {text!r}; set it to a number of seconds above 0")
