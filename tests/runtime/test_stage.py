"""How a stage ends."""

import errno
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline.runtime import stage
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.stage import run
from tests.conftest import PROJECT


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("params.yaml is missing; restore it"), "error: params.yaml is missing; restore it"),
        (MemoryError(), "error: out of memory; use a smaller corpus, vocabulary, batch or hidden size"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), "error: [Errno 28] No space left on device: "),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            "error: [Errno 122] Disk quota exceeded; free space on",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "data/x"),
            "error: [Errno 13] Permission denied: 'data/x';",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "a.txt"), "error: [Errno 17] File exists: 'a.txt'; something el"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "error: [Errno 20] Not a directory; a file is where a "),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "error: [Errno 21] Is a directory; a folder is where"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "error: [Errno 36] File name too long; use shorter names"),
        (OSError(errno.EFBIG, "File too large"), "error: [Errno 27] File too large; allow larger files"),
        (OSError(errno.EMFILE, "Too many open files"), "error: [Errno 24] Too many open files; allow more open files"),
        (
            SafetensorError("I/O error:\nNo space left (os error 28)"),
            "error: I/O error: No space left (os ",
        ),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "error: out of memory; use a smaller corpus"),
        (torch.OutOfMemoryError("CUDA out of memory"), "error: out of memory; use a smaller corpus"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] not enough"), "error: out of memory; use a smaller corpus"),
        (StoppedError("stopped by SIGTERM; it goes on", 15), 143),
    ],
    ids=repr,
)
def test_what_the_user_can_fix_is_one_line(error, line):
    with pytest.raises(SystemExit) as ended:
        run(raising(error))
    if isinstance(line, int):
        assert ended.value.code == line
        return
    # Python prints a text given to sys.exit on standard error and ends with status 1.
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith(line)
    assert "\n" not in ended.value.code


def save_with_safetensors(path: Path) -> None:
    save_file({"weights": torch.zeros(100_000)}, path)


def write_with_arrow(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file:
        file.write(bytes(100_000))


@pytest.mark.parametrize(
    "work", [lambda: torch.empty(1 << 60), lambda: pa.allocate_buffer(1 << 60)], ids=["torch", "Arrow"]
)
def test_memory_that_a_library_cannot_get_is_one_line(work):
    with pytest.raises(SystemExit, match="error: out of memory; use a smaller"):
        run(work)


@pytest.mark.parametrize("write", [save_with_safetensors, write_with_arrow])
def test_a_file_that_a_library_cannot_write_is_one_line(write, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SystemExit, match=r"error: .*File too large.*; allow larger files .*, then run again$"):
            run(lambda: write(tmp_path / "file"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_stage_that_fails_prints_that_line_alone_and_ends_with_status_1():
    code = """
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.stage import run

def work():
    raise InputError("params.yaml is missing; restore it")

run(work)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: params.yaml is missing; restore it\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        OSError("no number"),
        RuntimeError("a bug in a tensor's shape"),
        # What these say is not what they are about.
        ValueError("No space left on device"),
        RuntimeError("CUDA out of memory"),
        RuntimeError("see [enforce fail at alloc_cpu.cpp:1]"),
        ValueError("[enforce fail at alloc_cpu.cpp:1] can't allocate memory"),
        ValueError("I/O error (os error 28)"),
        pa.ArrowInvalid("No space left on device"),
        SafetensorError("header too large: No space left on device"),
        SafetensorError("no such file (os error 2)"),
    ],
    ids=repr,
)
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(SystemExit) as ended:
        run(raising(error))
    assert str(ended.value).startswith("Traceback (most recent call last):\n")
    assert "in work\n    raise error\n" in str(ended.value)
    assert str(ended.value).rstrip().endswith(str(error))


@pytest.mark.parametrize("error", [InputError, ValueError, lambda text: FileNotFoundError(errno.EACCES, text)])
def test_no_message_shows_the_password_of_a_url(error):
    try:
        raise KeyError("while asking https://me:p@ssw0rd@host/path?token=abcd")
    except KeyError:
        with pytest.raises(SystemExit) as ended:
            run(raising(error("no answer of postgresql://me:p@ssw0rd@host/db")))
    assert "postgresql://host/db" in str(ended.value)
    assert "ssw0" not in str(ended.value)
    assert "abcd" not in str(ended.value)


def test_a_stage_that_works_just_ends():
    done = []
    run(lambda: done.append(1))
    assert done == [1]


def test_a_parent_that_goes_while_it_is_looked_at_has_gone(monkeypatch):
    parent = psutil.Process()
    assert stage._lives(parent)

    def vanished(process: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "status", vanished)
    assert not stage._lives(parent)
