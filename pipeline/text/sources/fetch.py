"""Bringing files here from any URL that fsspec opens, whole and checked.

A broken transfer resumes where it stopped, now or in the next run, if the server can tell that its file is still the
same; a failed one is retried after longer and longer pauses. A file with a checksum is fetched once, one without at
every call, as it may have changed.
"""

import glob
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

import fsspec
import requests

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import sync, write_text
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.urls import without_secrets

DOWNLOADS = Path(".rnnlm/downloads")
MIRROR = "RNNLM_MIRROR"

CHUNK = 1 << 16  # bytes; what a broken transfer loses
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds; the second between two pieces of an answer
TRIES = 5  # in a row without a new byte
FIRST_PAUSE = 1.0  # seconds before the second try; doubled for each one after it
# Refusals that a retry may overcome, as it may the server's own failures (500 and above).
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class _BrokenError(Exception):
    """A transfer failed in a way that another try may fix; the message says how."""


class _Transfer(NamedTuple):
    """What a server sends.

    Attributes:
        chunks: the bytes from `start` on.
        start: where they begin; 0 unless the server can resume and its file has the version asked for.
        size: bytes of the whole file, or None where the server does not say.
        version: changes with the file's content (an ETag, say); empty where the server has none.
    """

    chunks: Iterator[bytes]
    start: int
    size: int | None
    version: str


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

    def fetch(self, url: str, checksum: str | None = None) -> Path:
        """A local file with the content of `url`; a local path is returned as it is, once it is checked.

        Args:
            url: a path, or a URL of any kind that fsspec opens; `$NAME` in a URL stands for an environment variable, so
                that a token need not be written down.
            checksum: `sha256:` or `git:` (as git names a blob) and hexadecimal digits.

        Raises:
            InputError: there is no such file or server, the transfer fails for good, the file is larger than
                `max_bytes`, or its checksum is another.
        """
        if is_local(url):
            path = Path(unquote(urlsplit(url).path) if "://" in url else url)
            if checksum and path.exists():
                _check(path, checksum, str(path))
            return path
        url = _with_environment(url)
        parts = urlsplit(url)
        if "@" in parts.netloc and parts.scheme.startswith("http"):
            raise InputError(
                f"{without_secrets(url)}: the URL holds a login, and params.yaml and dvc.lock are committed; "
                "put it into ~/.netrc"
            )
        name = _file_name(parts.path)
        path = self._folder / hashlib.sha256(url.encode()).hexdigest()[:16] / name
        if mirrored := self._mirrored(parts, name, checksum):
            return mirrored
        if checksum and path.exists() and digest(path, checksum) == checksum:
            return path
        partial = path.parent / f".{name}.partial"
        self._receive_all(url, partial)
        try:
            if checksum:
                _check(partial, checksum, without_secrets(url))
        except InputError:
            partial.unlink()
            raise
        sync(partial)
        partial.replace(path)
        partial.with_suffix(".version").unlink()
        return path

    def _mirrored(self, parts: SplitResult, name: str, checksum: str | None) -> Path | None:
        if not self._mirror:
            return None
        if not self._mirror.is_dir():
            raise InputError(f"{MIRROR} names {self._mirror}, which is not a folder; correct it or unset it")
        candidates = [self._mirror / parts.netloc / unquote(parts.path).lstrip("/")]
        if checksum:
            candidates += sorted(self._mirror.rglob(glob.escape(name)))
        for path in candidates:
            if not path.is_file() or not path.resolve().is_relative_to(self._mirror.resolve()):
                continue
            if not checksum or digest(path, checksum) == checksum:
                return path
            print(f"warning: {path} does not have the checksum {checksum}; looking further", file=sys.stderr)
        return None

    def _receive_all(self, url: str, partial: Path) -> None:
        failures = 0
        while True:
            before = _size(partial)
            try:
                return self._receive(url, partial)
            except _BrokenError as error:
                failures = failures + 1 if _size(partial) <= before else 1
                if failures == TRIES:
                    raise InputError(
                        f"{without_secrets(url)}: {error}, {TRIES} times in a row; try later, which resumes where this "
                        f"stopped, or put the file into a folder that {MIRROR} names"
                    ) from None
                pause = FIRST_PAUSE * 2 ** (failures - 1)
                print(
                    f"fetch {without_secrets(url)}: {error}; trying again in {pause:g} s", file=sys.stderr, flush=True
                )
                time.sleep(pause)

    def _receive(self, url: str, partial: Path) -> None:
        """One try: append to `partial` what it lacks."""
        partial.parent.mkdir(parents=True, exist_ok=True)
        version_file = partial.with_suffix(".version")
        version = version_file.read_text(encoding="utf-8") if version_file.exists() else ""
        open_ = _open_http if urlsplit(url).scheme in ("http", "https") else _open_fsspec
        with open_(url, _size(partial) if version else 0, version) as transfer:
            self._check_size(transfer.size or 0, url, partial)
            if not transfer.start:
                # In this order, so that a kill between two lines leaves no bytes of one version under another's name.
                partial.unlink(missing_ok=True)
                write_text(version_file, transfer.version)
            rest = transfer.size and transfer.size - transfer.start
            with (
                progress_bar(f"fetch {PurePosixPath(without_secrets(url)).name}", rest, "bytes") as bar,
                partial.open("ab") as file,
            ):
                for chunk in transfer.chunks:
                    file.write(chunk)
                    bar.advance(len(chunk))
                    self._check_size(file.tell(), url, partial)
            if transfer.size is not None and _size(partial) != transfer.size:
                raise _BrokenError(f"it ended after {_size(partial):,} of {transfer.size:,} bytes")

    def _check_size(self, size: int, url: str, partial: Path) -> None:
        if size > self._max_bytes:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"{without_secrets(url)} is larger than {self._max_bytes:,} bytes; "
                "if that is right, raise download.max_bytes"
            )


def mirror_folder() -> Path | None:
    """The folder that the environment variable `RNNLM_MIRROR` names, for machines without internet."""
    return Path(os.environ[MIRROR]) if os.environ.get(MIRROR) else None


def is_local(url: str) -> bool:
    """Whether `url` is a path or a file: URL."""
    return "://" not in url or urlsplit(url).scheme in ("file", "local")


def _file_name(path: str) -> str:
    """The last part of a URL's path, as a name that leads nowhere: `%2F..` in it must not."""
    name = re.sub(r"[^\w.+-]", "_", PurePosixPath(unquote(path)).name)
    return name if name.strip(".") else "index"


def _with_environment(url: str) -> str:
    expanded = os.path.expandvars(url)
    if missing := re.search(r"\$\{?(\w+)", expanded):
        raise InputError(
            f"{without_secrets(url)}: the environment variable {missing[1]} is not set; set it, or change the URL"
        )
    return expanded


def digest(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as `like`: `sha256:...`, or `git:...` of a blob."""
    kind = like.partition(":")[0]
    if kind == "git":
        found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        found = hashlib.sha256()
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, lambda: found).hexdigest()}"


def _check(path: Path, checksum: str, name: str) -> None:
    found = digest(path, checksum)
    if found != checksum:
        raise InputError(
            f"{name} has the checksum {found}, but params.yaml wants {checksum}; it is another version, or damaged"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _open_http(url: str, offset: int, version: str) -> Iterator[_Transfer]:
    """Ask for `url` from byte `offset` on, if it is still of `version`."""
    headers = {"Accept-Encoding": "identity"}  # else a .gz might arrive unpacked, and sizes would mean nothing
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            status = response.status_code
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # nothing is left to send: start again
                with _open_http(url, 0, "") as transfer:
                    yield transfer
                return
            if status >= HTTPStatus.BAD_REQUEST:
                answer = f"the server answered {status} {response.reason}"
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING:
                    raise _BrokenError(answer)
                raise InputError(
                    f"{without_secrets(url)}: {answer}; correct the URL in section download of params.yaml"
                )
            start = offset if status == HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers.get("Content-Length", "")
            size = start + int(length) if length.isdigit() else None
            # If-Range takes strong ETags only.
            tag = response.headers.get("ETag", "")
            tag = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
            yield _Transfer(response.iter_content(CHUNK), start, size, tag)
    except (requests.Timeout, TimeoutError):
        raise _BrokenError("no answer in time") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects) as error:
        raise InputError(
            f"{without_secrets(url)}: {type(error).__name__}; correct it in section download of params.yaml"
        ) from None
    except requests.RequestException as error:
        # Not the whole message: it repeats the URL, query and all.
        raise _BrokenError(f"no connection, or it was lost ({type(error).__name__})") from None


@contextmanager
def _open_fsspec(url: str, offset: int, version: str) -> Iterator[_Transfer]:
    with _fsspec_errors(url):
        system, path = fsspec.url_to_fs(url)
        info: dict[str, Any] = system.info(path)
        found = str(info.get("ETag") or system.ukey(path))
        start = offset if found == version else 0
        file = system.open(path, "rb")

    def chunks() -> Iterator[bytes]:
        with _fsspec_errors(url):
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    with file:
        yield _Transfer(chunks(), start, info.get("size"), found)


@contextmanager
def _fsspec_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:  # a package that the protocol needs; a protocol that there is not
        raise InputError(f"{without_secrets(url)} cannot be opened: {' '.join(str(error).split())}") from None
    except FileNotFoundError:
        raise InputError(
            f"{without_secrets(url)}: there is no such file; correct section download of params.yaml"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # each file system has its own kinds
        raise _BrokenError(type(error).__name__) from None
