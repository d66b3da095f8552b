"""What retraining asks of DVC: results from the remote, what is out of date, running that, results to the remote."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import InputError
from pipeline.runtime.settings import quieten_dvc
from pipeline.runtime.urls import without_secrets

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK = Path("dvc.lock")
FIRST = "everything: nothing has run here before"
LISTED = 5  # files or parameters of a kind that are named


@dataclass(frozen=True)
class Ran:
    """The stages that `dvc repro` ran, and those it restored from the cache, in order."""

    ran: tuple[str, ...]
    restored: tuple[str, ...]


def has_remote() -> bool:
    """Whether a default remote is set up."""
    with _repo() as repo:
        return bool(repo.config["core"].get("remote"))


def pull() -> None:
    """Bring the results that dvc.lock names into cache and checkout; what the remote does not have, `dvc repro` makes.

    Raises:
        InputError: the remote cannot be read.
    """
    with _repo() as repo:
        # Earlier runs come when they are needed: `repro` asks for them.
        repo.pull(allow_missing=True, force=True)


def push() -> None:
    """Push the results of dvc.lock, and the runs that led there.

    Raises:
        InputError: the remote cannot be written.
    """
    with _repo() as repo:
        repo.push(run_cache=True)


def changes() -> dict[str, list[str]]:
    """What is out of date: names of files and parameters by kind; empty where nothing is.

    A URL that is watched is asked for its ETag, a file or folder for its checksum.

    Raises:
        InputError: dvc.yaml cannot be read, or a file or URL that it names.
    """
    with _repo() as repo:
        status = repo.status()
    return {FIRST: []} if status and not LOCK.exists() else causes(status)


def causes(status: dict[str, Any]) -> dict[str, list[str]]:
    """The causes in what `dvc status` says, without what only follows from them."""
    found: dict[str, dict[str, None]] = {}
    for stage, entries in status.items():
        for entry in entries:
            if entry == "changed command":
                found.setdefault("code", {})[f"the command of {stage}"] = None
            deps = entry.get("changed deps", {}) if isinstance(entry, dict) else {}
            for path, state in deps.items():
                if path == "params.yaml":
                    names = state if isinstance(state, dict) else {f"those of the new stage {stage}": state}
                    found.setdefault("parameters", {}).update(dict.fromkeys(names))
                elif not path.startswith("data/"):
                    kind = "code" if path.endswith(".py") else "libraries" if path == "constraints.txt" else "data"
                    found.setdefault(kind, {})[without_secrets(path)] = None
    if status and not found:
        found["results"] = {"missing or not those of dvc.lock": None}
    return {kind: list(names) for kind, names in found.items()}


def in_words(found: dict[str, list[str]]) -> str:
    """What changed, on one line."""
    parts = []
    for kind, names in found.items():
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        parts.append(f"{kind}: {', '.join(names[:LISTED])}{more}" if names else kind)
    return "; ".join(parts) or "nothing"


def repro(pull: bool) -> Ran:
    """Run what is out of date; what DVC prints is passed on.

    Args:
        pull: whether there is a remote, which may have the results of an earlier run of a stage.

    Raises:
        InputError: a stage fails.
    """
    # A stage finds the project's code as we did, and tells its progress while it works.
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *(["--pull"] if pull else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    lines = []
    try:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())
        status = process.wait()
    finally:
        # Where we end early, a stage sees that its dvc has gone, saves what it has, and ends too.
        if process.poll() is None:
            process.terminate()
            process.wait()
    if status:
        told = [line for line in lines if re.match(r"(error|ERROR): ", line)] or lines[-1:]
        raise InputError(f"dvc repro fails: {without_secrets('; '.join(told))}")
    text = "\n".join(lines)
    return Ran(
        tuple(re.findall(r"^Running stage '(.+)'", text, re.MULTILINE)),
        tuple(re.findall(r"^Stage '(.+)' is cached", text, re.MULTILINE)),
    )


@contextmanager
def _repo() -> "Iterator[Repo]":
    """DVC's repository here; what fails in it until the block ends is one line."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    quieten_dvc()
    try:
        with Repo(os.curdir) as repo:
            yield repo
    except (DvcException, OSError) as error:
        text = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"DVC fails: {without_secrets(text)}") from None
