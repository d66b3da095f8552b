"""Writing files whole or not at all."""

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.errors import InputError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` when the block ends, removed when it fails.

    A killed process can leave a file named `.NAME.*.partial`, but never half of `path`; the next one that writes `path`
    removes it. Two processes must not write the same file at once.

    Raises:
        InputError: `path` is a device or a pipe, as /dev/null: whoever may would put a file in its place.
        OSError: the folder cannot be made, the disk is full, the rename fails.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a folder fails below, in the system's words
        raise InputError(f"{path} is a device or a pipe, not a file; write to a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        leftover.unlink()
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)  # without this, a power cut can undo the renaming
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder for work on the file `path`, beside it, removed when the block ends.

    A killed process leaves it there; the next one that works on `path` empties it.
    """
    folder = path.parent / f".{path.name}.scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Return once the file or folder is on the disk itself, safe from a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8 with unix line ends, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def in_chunks(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces of any length put together to chunks of at least `size` bytes; the last one may be smaller."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= size:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)
