"""Files and members of archives as streams, unpacked as they are read and within limits.

A few kilobytes can unpack to more than any machine holds, and a list of members can be all that an archive has. So
nothing is unpacked to disk, and all that a file, or all members of an archive together, unpack to has a limit.
"""

import errno
import gzip
import io
import lzma
import math
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.tar import TarFileSystem

from pipeline.runtime.errors import InputError, is_of_the_machine, one_line
from pipeline.runtime.remarks import Remarks

# By suffix: fsspec's name of the kind, and how it is packed, which fsspec would guess of some suffixes only.
ARCHIVES: dict[str, tuple[str, str | None]] = {
    ".zip": ("zip", None),
    ".tar": ("tar", None),
    ".tar.gz": ("tar", "gzip"),
    ".tgz": ("tar", "gzip"),
    ".tar.bz2": ("tar", "bz2"),
    ".tar.xz": ("tar", "xz"),
}
KINDS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")  # of files that are read
GZIP_START, ZIP_START = b"\x1f\x8b", b"PK\x03\x04"  # the first bytes of such files
# What a packed file begins with, and fsspec's name of that.
PACKED = {GZIP_START: "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
FIRST_MEMBER, OFFICE = 30, (b"[Content_Types].xml", b"_rels/", b"mimetype")  # where a zip file has its name
MOST_MEMBERS = 1_000_000  # of an archive: their names are held in memory
LARGEST_TAR_HEADER = 1 << 20  # bytes; an ordinary one has 512


@dataclass(frozen=True)
class TextFile:
    """A file, or a member of an archive."""

    name: str  # what errors call it
    path: PurePosixPath  # in the folder or archive; its suffix tells its kind
    open_raw: Callable[[], AbstractContextManager[IO[bytes]]]  # opens it as it is stored; it may be packed
    room: "Room"  # for what it unpacks to
    remarks: Remarks = field(default_factory=Remarks)  # where what is odd about it is told
    stored: float = math.inf  # bytes, as `open_raw` gives them

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        """The suffix of its name, without `.gz`."""
        return kind_of(self.path)

    @property
    def is_packed(self) -> bool:
        """Whether it is a gzip file."""
        return self.path.name.lower().endswith(".gz")

    @property
    def size(self) -> float:
        """Bytes that reading all of it takes; infinite where only that tells: packed ones, and columns of Parquet."""
        return math.inf if self.is_packed or self.kind == ".parquet" else self.stored

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The content, unpacked whatever its name; reading it raises InputError where it is damaged or too large."""
        try:
            with self.open_raw() as raw:
                start = raw.read(len(ZIP_START))
                raw.seek(0)
                if start == ZIP_START:
                    raise InputError(f"{self} is a zip archive, or a spreadsheet; name it .zip, or save it as text")
                is_packed = self.is_packed or start.startswith(GZIP_START)
                unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_packed else raw
                yield io.BufferedReader(_Limited(unpacked, self))
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(f"{self} is not a whole gzip file ({error}); fetch or pack it again") from None
        except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError) as error:
            raise InputError(f"{self} is damaged ({error}); fetch or pack it again") from None
        except (NotImplementedError, RuntimeError) as error:  # a zip's kind of packing, or encryption
            raise InputError(f"{self} cannot be unpacked ({error}); pack it again, as an ordinary zip file") from None


class Room:
    """The bytes that a file, or all members of an archive together, may still unpack to.

    Args:
        name: what errors call it.
        max_bytes: to begin with.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._taken: dict[str, int] = {}
        self._sum = 0

    def take(self, member: str, size: int) -> None:
        """Note that so much of a member is unpacked, once however often it is read. Raises InputError."""
        more = size - self._taken.get(member, 0)
        if more > 0:
            self._taken[member] = size
            self._sum += more
        if self._sum > self._max_bytes:
            raise InputError(
                f"{self._name} holds more than {self._max_bytes:,} bytes; if that is right, raise download.max_bytes"
            )


class _Limited(io.RawIOBase):
    """A stream that ends in an error where there is no room for more of it."""

    def __init__(self, stream: IO[bytes], file: TextFile) -> None:
        self._stream = stream
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # pyrefly: ignore[bad-override]
        try:
            # One read below this one at most: when a second fails, what the first has read is lost.
            stream = self._stream
            chunk = stream.read1(len(buffer)) if isinstance(stream, gzip.GzipFile) else stream.read(len(buffer))
        except gzip.BadGzipFile as error:
            # As gunzip does, whose word is "trailing garbage ignored": all that is packed has been read, and checked.
            if not (str(error).startswith("Not a gzipped file") and self._stream.tell()):
                raise
            chunk = b""
        buffer[: len(chunk)] = chunk
        self._file.room.take(str(self._file.path), self._stream.tell())
        self._file.remarks.bytes_read += len(chunk)
        return len(chunk)


class _TarStream(io.RawIOBase):
    """An unpacked tar archive; while its list of members is read, no header is longer and no list than what is sane."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._headers = 0
        self.listing = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self.listing:
            self._headers += size == tarfile.BLOCKSIZE
            if self._headers > MOST_MEMBERS:
                raise _too_many(self._name)
            if size > LARGEST_TAR_HEADER:
                raise InputError(f"{self._name} is damaged: a member's header has {size:,} bytes; pack it again")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise tarfile.ReadError("a member ends where no file can") from None

    def tell(self) -> int:
        return self._stream.tell()


class _Tar(TarFileSystem):
    """fsspec's, but what is no file, and links to none, are tarfile's error when they are opened."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        try:
            return super()._open(path, mode, **options)
        except (KeyError, AttributeError):  # a link to what the archive does not have; a device, say
            raise tarfile.ReadError("neither a file nor a link to one in the archive") from None


def _too_many(name: str) -> InputError:
    return InputError(f"{name} has more than {MOST_MEMBERS:,} members; pack them into several archives")


def kind_of(path: Path | PurePosixPath) -> str:
    """The suffix of a name in lower case, without `.gz`; `.txt` of `notes.TXT.gz`."""
    return PurePosixPath(path.name.lower().removesuffix(".gz")).suffix


def archive_kind(path: Path) -> tuple[str, str | None] | None:
    """The kind of archive, as in `ARCHIVES`, that a file is by what it holds, or else by its name; None for no archive.

    A zip file that is named like a text, or begins like one of an office program, is none: it is a spreadsheet or so.
    """
    named = next((kind for suffix, kind in ARCHIVES.items() if path.name.lower().endswith(suffix)), None)
    if not path.is_file():
        return named
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    if start.startswith(ZIP_START):
        is_text = kind_of(path) in KINDS or start[FIRST_MEMBER:].startswith(OFFICE)
        return named if is_text else ("zip", None)
    packed = next((name for first, name in PACKED.items() if start.startswith(first)), None)
    try:
        with cast(Any, fsspec.open(str(path), "rb", compression=packed)) as file:
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        if isinstance(error, OSError) and is_of_the_machine(error):
            raise
        return named  # whose message says what is wrong with it
    return "tar", packed


def archive_members(path: Path, name: str, members: str) -> tuple[Any, list[PurePosixPath]]:
    """An archive, open as a file system of fsspec's, and the files in it.

    Args:
        path: of the archive, which errors call `name`.
        members: fsspec's notation for some of the files (`zip://folder/*.txt`), or empty: all.

    Raises:
        InputError: it is damaged, has too many members, or is not what `members` says.
    """
    try:
        protocol, packed = archive_kind(path) or ("", None)
        system, pattern = _opened(path, name, protocol, packed), None
        if members:
            kind, _, pattern = members.partition("://")
            if kind != protocol or "::" in pattern or system is None:
                system, pattern = fsspec.url_to_fs(f"{members}::{path}")
        assert system is not None
        found = system.find("") if pattern is None else system.glob(pattern)
        if len(found) > MOST_MEMBERS:
            raise _too_many(name)
        return system, [PurePosixPath(member) for member in found if system.isfile(member)]
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{name} is not a whole archive ({error}); fetch or pack it again") from None
    except (ImportError, ValueError, NotImplementedError) as error:
        raise InputError(f"{members or path.suffix}::{name} cannot be opened: {one_line(error)}") from None


def _opened(path: Path, name: str, protocol: str, packed: str | None) -> Any:
    """The archive as a file system of fsspec's; None of a kind that is not known by its name."""
    if protocol != "tar":
        return fsspec.filesystem(protocol, fo=str(path), skip_instance_cache=True) if protocol else None
    stream = _TarStream(cast(Any, fsspec.open(str(path), "rb", compression=packed)).open(), name)
    system: Any = _Tar(fo=cast(Any, stream), skip_instance_cache=True)
    stream.listing = False
    if any(info["size"] < 0 for info, *_ in system.index.values()):
        raise tarfile.ReadError("a member has less than no bytes")
    # `tar -c .` and absolute names give names that fsspec lists in one way and opens by the other.
    plain = {name: PurePosixPath(name.lstrip("/")).as_posix() for name in system.index}
    system.index = {
        plain[name]: (info | {"name": plain[name]}, *rest)
        for name, (info, *rest) in system.index.items()
        if plain[name] != "."
    }
    return system
