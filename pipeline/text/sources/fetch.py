"""Bringing files here from any URL that fsspec opens, whole and checked.

A broken transfer resumes where it stopped, now or in the next run, if the server can tell that its file is still the
same; a failed one is retried after longer and longer pauses. A file with a checksum is fetched once, one without at
every call, as it may have changed.

Messages, names of files and what is kept know a URL as it is written in params.yaml, without the values of environment
variables.
"""

import glob
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
import requests

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import in_chunks, sync, write_text
from pipeline.runtime.hashes import digest
from pipeline.runtime.patience import in_time
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.urls import has_login, shown, told

DOWNLOADS = Path(".rnnlm/downloads")
MIRROR = "RNNLM_MIRROR"
COPIES = 8  # kept of one URL, each fetched with another query

CHUNK = 1 << 16  # bytes; what a broken transfer loses
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds; the second between two bytes of an answer
SLOWEST = CONNECT_TIMEOUT + READ_TIMEOUT  # seconds for the head of an answer, and for each chunk of it
TRIES = 5  # in a row without a new byte
FIRST_PAUSE = 1.0  # seconds before the second try; doubled for each one after it
LONGEST_FILE_NAME = 200  # bytes of a file's name; systems allow 255
HTTP = ("http", "https")
WHOLE = {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}
# Refusals that a retry may overcome, as it may the server's own failures (500 and above).
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class _BrokenError(Exception):
    """A transfer failed in a way that another try may fix; the message says how."""


class _Version(NamedTuple):
    """Which content of a file a server sends.

    Attributes:
        tag: changes with the content (an ETag, say); empty where the server has none.
        size: bytes of the whole file, or None where the server does not say.
    """

    tag: str = ""
    size: int | None = None


class _Transfer(NamedTuple):
    """What a server sends.

    Attributes:
        chunks: the bytes from `start` on.
        start: where they begin; 0 unless the server can resume and its file has the version asked for.
        version: of the whole file.
    """

    chunks: Iterator[bytes]
    start: int
    version: _Version


class Fetcher:
    """Gives a local path for a URL.

    Args:
        max_bytes: of one file.
        folder: where fetched files are kept.
        mirror: a folder to look in first, for `host/path/name` as in the URL or, where a checksum tells the right one,
            for `name` anywhere below.
    """

    def __init__(self, max_bytes: int, folder: Path = DOWNLOADS, mirror: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._folder = folder
        self._mirror = mirror
        self._used: set[Path] = set()

    def fetch(self, url: str, checksum: str | None = None) -> Path:
        """A local file with the content of `url`; a local path is returned as it is, once it is checked.

        Args:
            url: a path, or a URL of any kind that fsspec opens; `$NAME` or `${NAME}` in a URL stands for an environment
                variable, so that a token need not be written down.
            checksum: `sha256:` or `git:` (as git names a blob) and hexadecimal digits.

        Raises:
            InputError: there is no such file or server, the transfer fails for good, the file is larger than
                `max_bytes`, or its checksum is another.
        """
        if is_local(url):
            path = Path(unquote("/" + _host_and_path(url)[1]) if "://" in url else url)
            if checksum and path.exists():
                _check(path, checksum, str(path))
            return path
        expanded, name = _with_environment(url), shown(url)
        if _scheme(expanded) in HTTP and has_login(expanded):
            raise InputError(
                f"{name}: the URL holds a login, and params.yaml and dvc.lock are committed; put it into ~/.netrc "
                "(or, if it is none, write %40 for @)"
            )
        file = _file_name(_host_and_path(url)[1])
        path = self._folder_for(url) / file
        if mirrored := self._mirrored(expanded, name, checksum):
            return mirrored
        if checksum and path.exists() and digest(path, checksum) == checksum:
            path.parent.touch()
            return path
        partial = path.parent / f".{file}.partial"
        self._receive_all(expanded, name, partial)
        try:
            if checksum:
                _check(partial, checksum, name)
        except InputError:
            partial.unlink()
            raise
        sync(partial)
        partial.replace(path)
        partial.with_suffix(".version").unlink()
        return path

    def _folder_for(self, url: str) -> Path:
        """Where the copy of a URL as written lies; of many that differ in their query only, the oldest go."""
        base = hashlib.sha256(shown(url).encode()).hexdigest()[:16]
        folder = self._folder / base
        if shown(url) != url:
            folder = self._folder / f"{base}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        self._used.add(folder)
        # A signed query is another each time; but a corpus may need any number of queries at once.
        copies = {folder, *self._folder.glob(f"{base}-*")}
        oldest = sorted(copies - self._used, key=lambda path: path.stat().st_mtime)
        for unused in oldest[: max(0, len(copies) - COPIES)]:
            shutil.rmtree(unused, ignore_errors=True)
        return folder

    def _mirrored(self, url: str, name: str, checksum: str | None) -> Path | None:
        if not self._mirror:
            return None
        if not self._mirror.is_dir():
            raise InputError(f"{MIRROR} names {self._mirror}, which is not a folder; correct it or unset it")
        host, path = _host_and_path(url)
        candidates = [self._mirror / host / unquote(path).lstrip("/")]
        if checksum:
            candidates += sorted(self._mirror.rglob(glob.escape(_file_name(path))))
        for path in candidates:
            if not path.is_file() or not path.resolve().is_relative_to(self._mirror.resolve()):
                continue
            if not checksum or digest(path, checksum) == checksum:
                return path
            print(
                f"warning: what {self._mirror} has for {name} does not have the checksum {checksum}; looking further",
                file=sys.stderr,
            )
        return None

    def _receive_all(self, url: str, name: str, partial: Path) -> None:
        failures, furthest = 0, _size(partial)
        while True:
            try:
                return self._receive(url, name, partial)
            except (_BrokenError, TimeoutError) as error:
                # Progress is what no try has reached: one that has to start again is no progress.
                failures = failures + 1 if _size(partial) <= furthest else 1
                furthest = max(furthest, _size(partial))
                if failures == TRIES:
                    raise InputError(
                        f"{name}: {error}, {TRIES} times in a row; try later, which resumes where this stopped, or put "
                        f"the file into a folder that {MIRROR} names"
                    ) from None
                pause = FIRST_PAUSE * 2 ** (failures - 1)
                print(f"fetch {name}: {error}; trying again in {pause:g} s", file=sys.stderr, flush=True)
                time.sleep(pause)

    def _receive(self, url: str, name: str, partial: Path) -> None:
        """One try: append to `partial` what it lacks."""
        version_file = partial.with_suffix(".version")
        version = _read_version(version_file)
        open_ = _open_http if _scheme(url) in HTTP else _open_fsspec
        offset = _size(partial) if version.tag else 0

        def pieces() -> Iterator[Any]:
            with open_(url, name, offset, version) as transfer:
                yield transfer
                yield from in_chunks(transfer.chunks, CHUNK)

        with closing(in_time(pieces, SLOWEST)) as received:
            transfer = next(received)
            size = transfer.version.size
            self._check_size(size or 0, name, partial)
            if not transfer.start:
                # In this order, so that a kill between two lines leaves no bytes of one version under another's name.
                partial.unlink(missing_ok=True)
                write_text(version_file, f"{transfer.version.tag}\n{'' if size is None else size}")
            rest = None if size is None else size - transfer.start
            with progress_bar(f"fetch {partial.name[1:-8]}", rest, "bytes") as bar, partial.open("ab") as file:
                for chunk in received:
                    file.write(chunk)
                    bar.advance(len(chunk))
                    self._check_size(file.tell(), name, partial)
                    if size is not None and file.tell() > size:
                        break
        came = _size(partial)
        if size is not None and came != size:
            if came > size:
                partial.unlink()
            raise _BrokenError(f"{came:,} bytes came of a file of {size:,}")

    def _check_size(self, size: int, name: str, partial: Path) -> None:
        if size > self._max_bytes:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"{name} is larger than {self._max_bytes:,} bytes; if that is right, raise download.max_bytes"
            )


def mirror_folder() -> Path | None:
    """The folder that the environment variable `RNNLM_MIRROR` names, for machines without internet."""
    return Path(os.environ[MIRROR]) if os.environ.get(MIRROR) else None


def is_local(url: str) -> bool:
    """Whether `url` is a path or a file: URL."""
    return "://" not in url or _scheme(url) in ("file", "local")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _host_and_path(url: str) -> tuple[str, str]:
    """Of a URL with a host; urllib's own function quotes what it refuses, a password too."""
    host, _, path = shown(url).partition("://")[2].partition("/")
    return host, path


def _file_name(path: str) -> str:
    """The last part of a URL's path, as a name that leads nowhere: `%2F..` in it must not."""
    name = re.sub(r"[^\w.+-]", "_", PurePosixPath(unquote(path)).name)
    name = name.encode()[-LONGEST_FILE_NAME:].decode(errors="ignore")  # its end tells its kind
    return name if name.strip(".") else "index"


def _with_environment(url: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in os.environ:
            return os.environ[name]
        # A dollar inside a token is no variable, and what follows it is not for messages.
        if match.string[match.start() - 1] in "/=" and match.string[match.end() : match.end() + 1] in ("", *"/?&#"):
            raise InputError(f"{shown(url)}: the environment variable {name} is not set; set it, or change the URL")
        return match[0]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, url)


def _check(path: Path, checksum: str, name: str) -> None:
    found = digest(path, checksum)
    if found != checksum:
        raise InputError(
            f"{name} has the checksum {found}, but params.yaml wants {checksum}; it is another version, or damaged"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_version(path: Path) -> _Version:
    """The version of a partial file; that of an older program, or a damaged one, is none: the file is fetched anew."""
    text = path.read_bytes().decode("ascii", "replace") if path.exists() else ""
    tag, _, size = text.partition("\n")
    return _Version(tag, _number(size)) if text.isascii() and _number(size) is not None else _Version()


def _number(digits: str) -> int | None:
    """The number of bytes that a server, or a file of ours, says; None of anything else."""
    return int(digits) if re.fullmatch("[0-9]{1,18}", digits) else None


@contextmanager
def _open_http(url: str, name: str, offset: int, version: _Version) -> Iterator[_Transfer]:
    """Ask for `url` from byte `offset` on, if it is still of `version`; what else the server sends is not used."""
    headers = {"Accept-Encoding": "identity"}  # else a .gz might arrive unpacked, and sizes would mean nothing
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version.tag}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            status = response.status_code
            found = _version_of(response)
            if status == HTTPStatus.PARTIAL_CONTENT and offset and _continues(response, offset, version):
                yield _Transfer(response.iter_content(CHUNK), offset, version)
            elif status in WHOLE:
                yield _Transfer(response.iter_content(CHUNK), 0, found)
            elif offset and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                # Another part than asked for, or of another version, or nothing is left to send: start again.
                response.close()
                with _open_http(url, name, 0, _Version()) as transfer:
                    yield transfer
            else:
                answer = f"the server answered {status} {response.reason}"
                if status < HTTPStatus.BAD_REQUEST or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING:
                    raise _BrokenError(answer)
                raise InputError(f"{name}: {answer}; correct the URL in section download of params.yaml")
    except (requests.Timeout, TimeoutError):
        raise _BrokenError("no answer in time") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects) as error:
        raise InputError(f"{name}: {type(error).__name__}; correct it in section download of params.yaml") from None
    except requests.RequestException as error:
        # Not the whole message: it repeats the URL, query and all.
        raise _BrokenError(f"no connection, or it was lost ({type(error).__name__})") from None


def _version_of(response: requests.Response) -> _Version:
    """What a whole answer says of its file; nothing of one that is packed on its way, as its sizes are others."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return _Version()
    tag = headers.get("ETag", "")
    if not tag.startswith('"'):  # If-Range takes strong ETags only
        tag = headers.get("Last-Modified", "") if _is_strong(headers) else ""
    return _Version(tag, _number(headers.get("Content-Length", "")))


def _is_strong(headers: Mapping[str, str]) -> bool:
    """Whether Last-Modified tells versions apart: a file can change twice in its second (RFC 9110, 8.8.2.2)."""
    try:
        changed, now = (parsedate_to_datetime(headers[name]) for name in ("Last-Modified", "Date"))
        return now - changed >= timedelta(seconds=1)
    except (KeyError, ValueError, TypeError):
        return False


def _continues(response: requests.Response, offset: int, version: _Version) -> bool:
    """Whether a part begins at `offset`, ends with the file, and is of the `version` that is here so far."""
    headers = response.headers
    span = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", headers.get("Content-Range", "").strip())
    if not span or headers.get("Content-Encoding", "identity") != "identity":
        return False
    start, last, size = map(int, span.groups())
    return (
        (start, last + 1, size) == (offset, size, version.size)
        and _number(headers.get("Content-Length", "")) in (None, size - start)
        and headers.get("ETag" if version.tag.startswith('"') else "Last-Modified", version.tag) == version.tag
    )


@contextmanager
def _open_fsspec(url: str, name: str, offset: int, version: _Version) -> Iterator[_Transfer]:
    with _fsspec_errors(url, name):
        system, path = fsspec.url_to_fs(url)
        info: dict[str, Any] = system.info(path)
        found = _Version(str(info.get("ETag") or system.ukey(path)), info.get("size"))
        start = offset if found == version else 0
        file = system.open(path, "rb")

    def chunks() -> Iterator[bytes]:
        with _fsspec_errors(url, name):
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    with file:
        yield _Transfer(chunks(), start, found)


@contextmanager
def _fsspec_errors(url: str, name: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:  # a package that the protocol needs; a protocol that there is not
        raise InputError(f"{name} cannot be opened: {told(error, url)}") from None
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file; correct section download of params.yaml") from None
    except MemoryError:
        raise
    except Exception as error:  # each file system has its own kinds
        raise _BrokenError(type(error).__name__) from None
