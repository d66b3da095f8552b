"""Python commands of tests in forked processes, which need not import torch, MLflow and DVC again: seconds a process.

A server imports the libraries once, none of this project's own code, and forks for each command. What the command
starts in its turn, `dvc repro` its stages say, is forked from it where that is safe. All else is as with any process: a
pid, a group, signals, a status, an environment and streams of its own. Where a test is about how a process begins, or
is killed, it starts a real one.
"""

import atexit
import gc
import importlib
import io
import json
import logging
import os
import re
import runpy
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

OWN = ("pipeline", "stages", "tests", "tools", "benchmarks")  # code that a test may have changed in its clone
# Variables that libraries or Python read when they are loaded; those of Python that are left out here are heeded.
READ_AT_START = re.compile(
    r"(G?OMP|MKL|KMP|OPENBLAS|ATEN|ONEDNN|DNNL|NPY|LD|GLIBC|PYTHON(?!PATH|NOUSERSITE|UNBUFFERED))"
)
# What the commands import of others, and most of what those import in their turn.
LIBRARIES = """
    torch torch._dynamo safetensors.torch pandas pyarrow.dataset pyarrow.parquet dask.distributed networkx.readwrite
    matplotlib.backends.backend_agg matplotlib.figure matplotlib.style PIL.PngImagePlugin filelock rich.progress
    rich.table typer typer.testing markdown_it detect_secrets.main git punkt alembic.config alembic.migration
    sqlalchemy.dialects.sqlite mlflow.pyfunc mlflow.pyfunc.model mlflow.pyfunc.scoring_server mlflow.tracing.provider
    mlflow.tracing.processor.otel mlflow.store.model_registry.sqlalchemy_workspace_store
    mlflow.store.tracking.sqlalchemy_workspace_store opentelemetry.sdk.metrics configobj dulwich.ignore dulwich.index
    dulwich.worktree dvc.analytics dvc.cli.parser dvc.commands.experiments.run dvc.commands.repro dvc.repo
    dvc.repo.experiments dvc.repo.reproduce dvc.repo.status dvc.repo.plots dvc.repo.artifacts dvc.repo.datasets
    dvc.stage.cache dvc.render dvc.data_cloud dvc.fs.dvc dvc.utils.serialize dvc_data.index
    dvc_data.hashfile.db.local dvc_render ruamel.yaml scmrepo.git fsspec.implementations.memory
"""
BIN = Path(sys.executable).parent
# What this process got from its parent, as a shell ignores Ctrl-C for what runs in the background.
SIGNALS = {
    number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
}
_kept: list[Any] = []  # what a forked process has from its parent and must neither use nor clean up
_loggers: dict[str, dict[str, Any]] = {}  # as the libraries made them
_idle_threads = 0  # those of libraries that know of forks, OpenBLAS and jemalloc, which began as these were loaded


class Server:
    """The process that forks. One command at a time; `run` is None for what it cannot do as a real process would."""

    def __init__(self, **variables: str) -> None:
        """`variables`: for its environment, of those that libraries read when they are loaded."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._environment = os.environ | variables

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Any:
        """The `subprocess.CompletedProcess`, with text, of a Python command; None: somebody else must run it."""
        argv = python_arguments(command)
        if argv is None or read_at_start(environment) != read_at_start(self._environment):
            return None
        if not self._lock.acquire(blocking=False):
            return None
        try:
            with tempfile.TemporaryDirectory() as streams:
                out, err = Path(streams, "out"), Path(streams, "err")
                task = {"argv": argv, "folder": str(folder), "environment": dict(environment)}
                status = self._ask(task | {"out": str(out), "err": str(err)})
                return subprocess.CompletedProcess(command, status, out.read_text(), err.read_text())
        finally:
            self._lock.release()

    def _ask(self, task: Mapping[str, Any]) -> int:
        if self._process is None:
            code = "from tests.forking import serve; serve()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(task), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def python_arguments(command: Sequence[str]) -> list[str] | None:
    """What follows `python` in a command, that of a shell too; None if it runs no module or script of Python's."""
    if len(command) >= 3 and Path(command[0]).name in ("sh", "bash") and command[-2] == "-c":
        line = command[-1]
        command = shlex.split(line) if re.fullmatch(r"[\w@./ -]+", line) else []
    match command:
        case ["python" | sys.executable, *argv]:
            return argv if argv[:1] == ["-m"] else None
        case ["dvc" | "rnnlm" as name, *argv]:
            return [str(BIN / name), *argv]
    return None


def guarded(command: Sequence[str]) -> tuple[list[str] | None, Sequence[str]]:
    """Of a command of `stopping.child` the shell that leaves a guard beside it, and the command itself."""
    match command:
        case ["sh", "-c", script, seconds, pipe, *inner] if script.endswith('exec "$@"\n'):
            return ["sh", "-c", script, seconds, pipe, "true"], inner
    return None, command


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a forked process could no longer heed."""
    return {name: value for name, value in environment.items() if READ_AT_START.match(name)}


# As `python`, but that what follows is run with the libraries loaded, and what it starts in its turn is forked from it.
LOADED = (sys.executable, "-c", "from tests.forking import run_loaded; run_loaded()")


def run_loaded() -> None:
    """Be the `python` of the arguments of this process: see `LOADED`."""
    global _idle_threads
    _load()
    _idle_threads = _native_threads()
    become_python(sys.argv[1:], (0, 1, 2), (), None, dict(os.environ))


def serve() -> None:
    """Import what takes long; then fork for each task on standard input and answer with its status."""
    _load()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        task = json.loads(line)
        pid = os.fork()
        if pid == 0:
            streams = [os.open(os.devnull, os.O_RDONLY)]
            streams += [os.open(task[name], os.O_WRONLY | os.O_CREAT) for name in ("out", "err")]
            become_python(task["argv"], streams, (), task["folder"], task["environment"])
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def _load() -> None:
    """Import what takes long, and fork from now on."""
    import stages  # noqa: F401  (its switches come before torch)
    from pipeline.runtime.settings import nltk_alone

    with nltk_alone():
        import nltk  # noqa: F401
    for name in LIBRARIES.split():
        importlib.import_module(name)
    wait_for_no_disk()
    import mlflow.utils.requirements_utils

    # Which package each module is of: logging a model needs it.
    mlflow.utils.requirements_utils._init_modules_to_packages_map()
    _loggers.update((logger.name, _settings(logger)) for logger in _all_loggers())
    subprocess.Popen = ForkingPopen  # pyrefly: ignore


def wait_for_no_disk() -> None:
    """Let SQLite trust the system to write: MLflow's many commits wait for it, and no test cuts off the power."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def trust(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")


def _native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()


class ForkingPopen(subprocess.Popen):
    """`subprocess.Popen` that forks for a Python command instead of executing it."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any, *rest: Any
    ) -> None:
        *_, shell, to_in, from_in, to_out, from_out, to_err, from_err, _, gid, gids, uid, umask, session, group = rest
        guard, command = guarded([] if shell or isinstance(args, str | bytes) else [os.fspath(arg) for arg in args])
        argv = python_arguments(command)
        environment = dict(os.environ if env is None else env)
        plain = not (executable or preexec_fn) and (gid, gids, uid, umask, group) == (None, None, None, -1, -1)
        # OpenMP's threads would be missing after a fork; Python's idle ones are not missed.
        native = _native_threads() > _idle_threads
        if argv is None or not plain or native or read_at_start(environment) != read_at_start(os.environ):
            start: Any = super()
            return start._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
        self.pid = os.fork()
        if self.pid == 0:
            globals()["_idle_threads"] = 0
            if session:
                os.setsid()
            if guard:
                real: Any = ForkingPopen.__base__
                real(guard, pass_fds=pass_fds).wait()
            streams = [given if given != -1 else own for own, given in enumerate((to_in, from_out, from_err))]
            become_python(argv, streams, pass_fds, cwd, environment)
        self._child_created = True
        self._close_pipe_fds(to_in, from_in, to_out, from_out, to_err, from_err)  # pyrefly: ignore
        return None


def become_python(
    argv: Sequence[str],
    streams: Sequence[int],
    passed: Sequence[int],
    folder: str | None,
    environment: Mapping[str, str],
) -> NoReturn:  # pyrefly: ignore[bad-return]
    """Go on in a forked process as `python ARGV`, with these file descriptors as standard streams."""
    status = 1
    try:
        for number, handler in SIGNALS.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        high = [os.dup(stream) for stream in streams]
        for own, stream in enumerate(high):
            os.dup2(stream, own)
        first = 3
        for kept in [*sorted(passed), os.sysconf("SC_OPEN_MAX")]:
            os.closerange(first, kept)
            first = kept + 1
        _kept.extend((sys.stdin, sys.stdout, sys.stderr, dict(sys.modules)))
        gc.freeze()  # what came from the parent is never finalized: its connections are the parent's
        # As those of Python: who puts another object in their place, as colorama does for DVC, closes nothing.
        raw = bool(environment.get("PYTHONUNBUFFERED"))
        printed = io.FileIO(1, "w", closefd=False) if raw else io.BufferedWriter(io.FileIO(1, "w", closefd=False))
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(printed, encoding="utf-8", write_through=raw)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        for logger in _all_loggers():
            vars(logger).update(_loggers.get(logger.name) or _settings(logging.Logger(logger.name)))
            logger._cache.clear()  # pyrefly: ignore
        if folder:
            os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]
        paths = environment.get("PYTHONPATH", "")
        status = _main(argv, [path for path in paths.split(os.pathsep) if path])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _all_loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


def _settings(logger: logging.Logger) -> dict[str, Any]:
    kept = {name: getattr(logger, name) for name in ("level", "propagate", "disabled")}
    return kept | {"handlers": logger.handlers[:], "filters": logger.filters[:]}


def _main(argv: Sequence[str], paths: Sequence[str]) -> int:
    """Run a module (`-m NAME ...`) or a script as Python would; returns the status, all threads done."""
    importlib.invalidate_caches()
    atexit._clear()
    installed = [path for path in sys.path if path.startswith((sys.base_prefix, sys.prefix))]
    try:
        if argv[0] == "-m":
            sys.argv = [argv[1], *argv[2:]]
            sys.path[:] = [str(Path.cwd()), *paths, *installed]
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(argv)
            sys.path[:] = [str(BIN), *paths, *installed]
            runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    threading._shutdown()  # pyrefly: ignore
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return status
