"""Every switch that this project sets for a whole process, with its reason.

Such a switch also changes what other code in the process does, so they are all here, and code that needs one calls its
function. A test makes sure that no other module sets one, but for those that it lists with a reason, such as handlers
of signals, which are given back. Environment variables that the user has set are left alone. Variables for a child
process are passed by `env=`, never through here. `.dvc/config` switches off DVC's telemetry.
"""

import csv
import ctypes
import io
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.runtime.exactness import SAME_ARITHMETIC
from pipeline.runtime.patience import exchange_seconds
from pipeline.runtime.processors import assigned_processors, available_processors, has_avx2

# By default, OpenMP's waiting threads spin, which takes processors from other work, such as a second training run. With
# so few rounds, a run that has the machine to itself loses next to nothing (benchmarks/sharing.py).
SPIN_COUNT = "3000"

# Of malloc.h; what is allocated in more bytes than the second is given back when freed.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves the machine unasked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a dead server blocks every call for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds; the same
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # stages and commands show their own
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for a command's answer
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # as for the loggers below
}
# These report tables created and requests retried, which users need not know.
MLFLOW_LOGGERS = ("mlflow", "alembic", "urllib3")
DASK_LOGGERS = ("distributed", "distributed.client")
# These have a line for every file that the remote lacks; `dvc repro` makes those files anyway.
DVC_LOGGERS = ("dvc", "dvc_data", "dvc_objects")

# What NLTK imports for its classifiers, tests and plots, and does without where it is not installed; MLflow may have
# imported the first part of SciPy before.
NLTK_EXTRAS = ("matplotlib", "scipy", "scipy.stats", "scipy.stats.stats", "sklearn")


def limit_spinning() -> None:
    """Let OpenMP's waiting threads sleep soon; works only before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def limit_threads() -> None:
    """Let OpenMP, BLAS and Arrow start no more threads than a container's quota of processors allows.

    By default they start one for each processor they see. Works only before torch, numpy and pyarrow are imported;
    child processes inherit it.
    """
    if (allowed := available_processors()) < assigned_processors():
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed))


def write_what_the_terminal_can_show() -> None:
    """Write a character that the terminal's encoding lacks as an escape such as \\u2019, instead of failing with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def compute_the_same_everywhere() -> None:
    """Let torch, MKL and NumPy compute the same bytes on all processors with AVX2; works only before they compute.

    Child processes inherit it. Torch would take this at its word on a processor without AVX2, and crash.
    """
    if has_avx2():
        for name, value in SAME_ARITHMETIC.items():
            os.environ.setdefault(name, value)


@contextmanager
def nltk_alone() -> Iterator[None]:
    """Let NLTK be imported without the libraries of its classifiers: they take a second, and nothing here uses them."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in NLTK_EXTRAS if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None: as if it were not installed
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


def lift_nltk_time_limit() -> None:
    """Let NLTK take its time: from 3.10.3 on it gives up on a text after five seconds.

    The sentences of a text must not depend on the machine's speed.
    """
    limits: Any = sys.modules.get("nltk.redos")
    if limits:
        limits.DEFAULT_TIMEOUT = None


def optimize_without_compiler() -> None:
    """Let torch's optimisers not import its compiler, which takes a second, only to ask it to leave them alone.

    Before they do, they look whether that was asked for before. Nothing here is compiled.
    """
    from torch.optim import Optimizer

    for method in vars(Optimizer).values():
        if function := getattr(method, "__wrapped__", None):
            setattr(function, "__dynamo_disable", function)


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what is allocated next, up to a gigabyte, instead of giving it back.

    Blocks above 32 MB are still given back. A user who sets `GLIBC_TUNABLES` or any `MALLOC_...` keeps what glibc does.
    Each step of training frees gradients and allocates them anew. Given back, their pages come as new ones, cleared
    one by one, which took a fifth of a step of a model with 256 units and 10,000 words.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library has it
    if mallopt and not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that all versions take


def quieten_cudnn() -> None:
    """Let torch not warn, at the first step on a GPU, that weights lie apart from each other.

    cuDNN wants them in one piece, so they are copied at each call; here they are laid out anew at each step anyway.
    """
    warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk", UserWarning)


def allow_long_csv_fields() -> None:
    """Let the `csv` module read fields of any length: by default 131,072 characters, and a document may be longer."""
    csv.field_size_limit(sys.maxsize)


def use_mlflow(store: str) -> None:
    """Import MLflow as this project uses it: impatient, quiet, and with `store` as the tracking URI of the process.

    Logging a model finds the store through that URI; other calls use a client of their own.
    """
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)
    for name in MLFLOW_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    _end_exchanges_that_trickle()
    import mlflow

    mlflow.set_tracking_uri(store)


def _end_exchanges_that_trickle() -> None:
    """Let urllib3, by which MLflow speaks to its server and boto3 to S3, cut an exchange that takes too long.

    Its own limits hold between two bytes, so one that comes now and then would keep a training run waiting for good.
    """
    from urllib3.connection import HTTPConnection

    kind: Any = HTTPConnection
    if hasattr(kind, "cut_later"):
        return
    request, getresponse = kind.request, kind.getresponse

    def cut(connection: Any, over: threading.Event) -> None:
        over.set()
        with suppress(OSError, AttributeError):  # it is closed
            connection.sock.shutdown(socket.SHUT_RDWR)

    def limited(self: Any, method: str, url: str, *arguments: Any, **options: Any) -> None:
        if self.cut_later is not None:
            self.cut_later.cancel()  # the exchange before it on this connection has ended
        self.cut = threading.Event()
        self.cut_later = threading.Timer(exchange_seconds(url), cut, [self, self.cut])
        self.cut_later.daemon = True
        self.cut_later.start()
        request(self, method, url, *arguments, **options)

    def answered(self: Any) -> Any:
        response = getresponse(self)
        if self.cut.is_set():  # half a head, which Python takes for a whole one
            raise TimeoutError
        return response

    kind.cut_later, kind.request, kind.getresponse = None, limited, answered


def be_patient_with_mlflow() -> None:
    """Give MLflow's server a minute for each answer; works only before `use_mlflow`.

    Who waits at a terminal wants to know soon. A retraining has nobody waiting, and may have trained for hours.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


def quieten_dask() -> None:
    """Let a client of Dask raise its errors, and not log their tracebacks too."""
    for name in DASK_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def quieten_optuna() -> None:
    """Let Optuna raise its errors and log nothing; works only after its import, which sets the level anew."""
    logging.getLogger("optuna").setLevel(logging.ERROR)


def quieten_dvc() -> None:
    """Let DVC, used as a library, raise its errors and log nothing."""
    for name in DVC_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
