"""DVC: what dvc.lock says, hashes as DVC makes them, bytes by their hash, and the steps that retraining asks for."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from pipeline.params import at, read_params
from pipeline.provenance.code import changed, read_pins
from pipeline.runtime.errors import InputError, one_line
from pipeline.runtime.paths import DATA, LOCK, PINS, TOKENS
from pipeline.runtime.patience import TRANSFER, transfer_seconds
from pipeline.runtime.settings import quieten_dvc
from pipeline.runtime.stopping import await_child, child, raise_if_stopped, run_child
from pipeline.runtime.urls import shown, without_secrets

if TYPE_CHECKING:
    from dvc.repo import Repo

FIRST = "everything: nothing has run here before"
CODE_KINDS = {"pipeline": "code", "stages": "code", "constraints.txt": "libraries"}  # of what stages read; else data
DVC = (sys.executable, "-m", "dvc")
# Brings one file or folder into the cache, by its hash, for which DVC has no command.
PULL_ONE = """
import sys
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
try:
    Repo().cloud.pull([HashInfo("md5", sys.argv[1])])
except DvcException as error:
    sys.exit(f"ERROR: {error}")
"""
NAMED_CAUSES = 5  # files or parameters of a kind that are named
TEXT_STAGES = ("download", "tokenize", "vocabulary", "encode")


@dataclass(frozen=True)
class StageRecord:
    """What went into a stage and what came out, each as dvc.lock says it."""

    deps: dict[str, str | None]  # hash by path; None for one that is not there
    outs: dict[str, str | None]  # likewise
    params: dict[str, Any]  # values by their key in params.yaml
    # What the stage's file of pins says, as `read_pins`; empty where nobody knows, and in records that have the hash of
    # each module among `deps`.
    code: dict[str, str] = field(default_factory=dict)

    def with_code(self, stage: str) -> "StageRecord":
        """This record with the code of the stage, as long as its file of pins lies there as the stage read it."""
        path = PINS / f"{stage}.txt"
        digest = self.deps.get(path.as_posix())
        if self.code or digest is None or digest_if_there(path) != digest:
            return self
        return replace(self, code=read_pins(path))

    def stands(self, params: Mapping[str, Any]) -> bool:
        """Whether the stage ran with these parameters on what lies in data/, and its outputs lie there as it left them.

        What it read and nobody has pulled speaks for nothing, and its code does not count.
        """
        read = {path: digest for path, digest in self.deps.items() if _is_data(Path(path))}
        return (
            all(at(params, key) == value for key, value in self.params.items())
            and all(digest is not None and digest_if_there(Path(path)) == digest for path, digest in self.outs.items())
            and all(digest_if_there(Path(path)) in (None, digest) for path, digest in read.items())
        )


def _is_data(path: Path) -> bool:
    return path.is_relative_to(DATA) and not path.is_relative_to(PINS)


@dataclass(frozen=True)
class Ran:
    """The stages that `dvc repro` ran, and those it restored from the cache, in order."""

    ran: tuple[str, ...]
    restored: tuple[str, ...]


def read_lock() -> dict[str, StageRecord]:
    """What dvc.lock says of every stage, by its name.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return {
            name: StageRecord(
                {dep["path"]: _hash(dep) for dep in entry.get("deps", [])},
                {out["path"]: _hash(out) for out in entry.get("outs", [])},
                entry.get("params", {}).get("params.yaml", {}),
            )
            for name, entry in yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"].items()
        }
    except FileNotFoundError:
        raise InputError(f"{LOCK} is missing; run `dvc repro` first") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{LOCK} is damaged; restore it with `git checkout {LOCK}` or run `dvc repro`") from None


def current_tokens() -> Path:
    """The tokens in data/, that they are what params.yaml and dvc.lock describe.

    Raises:
        InputError: they are not.
    """
    record = read_lock().get("tokenize")
    if record is None or not record.stands(read_params()):
        raise InputError(
            f"{TOKENS} is not what params.yaml, dvc.lock and the data here describe; run `dvc repro tokenize` first"
        )
    return TOKENS


def stage_record(name: str) -> StageRecord:
    """Hash what a stage such as `train@lstm` reads and writes, as it lies in the folder: dvc.lock is written later.

    Raises:
        DvcException: dvc.yaml has no such stage, or cannot be read.
    """
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(os.curdir) as repo:
        stage = repo.stage.load_one("dvc.yaml", name)
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        return StageRecord(
            {dep.def_path: digest_if_there(Path(dep.def_path)) for dep in stage.deps if dep not in params},
            {out.def_path: digest_if_there(Path(out.def_path)) for out in stage.outs},
            {key: value for dep in params for key, value in dep.read_params().items()},
        )


def dvc_digest(path: Path) -> str:
    """The hash that DVC gives a file or folder, as in dvc.lock; what .dvcignore names does not count.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB

    path = path.absolute()
    try:
        ignored: Any = DvcIgnoreFilter(localfs, Repo.find_root(str(path.parent)))
    except NotDvcRepoError:
        ignored = None
    # With `dry_run` nothing is written to the cache that it asks for.
    _, _, found = build(HashFileDB(localfs, str(path)), str(path), localfs, "md5", dry_run=True, ignore=ignored)
    return str(found.oid)


def digest_if_there(path: Path) -> str | None:
    """`dvc_digest`; None where there is nothing."""
    return dvc_digest(path) if path.exists() else None


def restore(name: str, digest: str, destination: Path) -> None:
    """Copy a file or folder out of DVC's cache, into which it is first pulled from the remote where it is missing.

    Messages call it `name`; `digest` is as in dvc.lock, and `destination` must not exist yet.

    Raises:
        InputError: nobody has it, or what the cache has under that name are other bytes.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    with Repo(os.curdir) as repo:
        cache = repo.cache.local

        def path_of(digest: str) -> str:
            if not cache.exists(digest):
                try:
                    _transfer("pull", [sys.executable, "-c", PULL_ONE, digest])
                except InputError as error:
                    why = f"is not in DVC's cache, and cannot be pulled: {error}"
                    raise InputError(f"{name} ({digest}) {why}") from None
            if not cache.exists(digest):
                raise InputError(f"{name} ({digest}) is neither in DVC's cache nor in its remote")
            return cache.oid_to_path(digest)

        path_of(digest)
        item = load(cache, HashInfo("md5", digest))
        files = {destination: digest}
        if isinstance(item, Tree):
            files = {destination.joinpath(*key): str(info.value) for key, _, info in item if info}
            destination.mkdir(parents=True)  # it may be empty
        for target, value in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path_of(value), target)
    if dvc_digest(destination) != digest:
        raise InputError(
            f"{name} in DVC's cache is not what its hash {digest} says: somebody changed it, or the disk did; "
            "delete it there and `dvc pull` it again"
        )


def has_remote() -> bool:
    """Whether a default remote is set up."""
    with repository() as repo:
        return bool(repo.config["core"].get("remote"))


def pull() -> None:
    """Bring the results that dvc.lock names into cache and checkout; what the remote does not have, `dvc repro` makes.

    Other results that lie there go: `unsaved_outputs` names those that nobody could bring back.

    Raises:
        InputError: the remote cannot be read, or takes too long.
    """
    # Earlier runs come when they are needed: `repro` asks for them.
    _transfer("pull", [*DVC, "pull", "--allow-missing", "--force"])


def push() -> None:
    """Push the results of dvc.lock, and the runs that led there.

    Raises:
        InputError: the remote cannot be written, or takes too long.
    """
    _transfer("push", [*DVC, "push", "--run-cache"])


def _transfer(name: str, command: Sequence[str]) -> str:
    """What a command of DVC prints that talks to a server, in a process that can be ended where that falls silent."""
    seconds = transfer_seconds()
    try:
        done = run_child(command, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"dvc {name} took longer than {seconds:g} seconds; is the remote up? {TRANSFER} sets the limit"
        ) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        told = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:] or [f"status {done.returncode}"]
        raise InputError(f"dvc {name} failed: {without_secrets('; '.join(told))}")
    return done.stdout.decode(errors="replace")


def unsaved_outputs() -> list[Path]:
    """Outputs of stages that are not what dvc.lock says, and which DVC's cache does not have either."""
    outs = [item for record in read_lock().values() for item in record.outs.items()] if LOCK.exists() else []
    with repository() as repo:
        return [
            Path(path)
            for path, digest in outs
            if (now := digest_if_there(Path(path))) not in (None, digest) and not repo.cache.local.exists(str(now))
        ]


def out_of_date() -> dict[str, list[str]]:
    """What is out of date: names of files and parameters by kind; empty where nothing is.

    A URL that is watched is asked for its ETag, a file or folder for its checksum.

    Raises:
        InputError: dvc.yaml cannot be read, or a file or URL that it names.
    """
    # In a process of its own, as a server that watches over a URL may fall silent.
    status = json.loads(_transfer("status", [*DVC, "status", "--json"]))
    return {FIRST: []} if status and not (LOCK.exists() and read_lock().keys() - {"pins"}) else causes(status)


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
                elif Path(path).parent == PINS:
                    for name in _changed_code(stage, path):
                        found.setdefault("code" if "/" in name or " " in name else "libraries", {})[name] = None
                elif not Path(path).is_relative_to(DATA):
                    found.setdefault(CODE_KINDS.get(path, "data"), {})[shown(path)] = None
    if status and not found:
        found["results"] = {"missing or not those of dvc.lock": None}
    return {kind: list(names) for kind, names in found.items()}


def _changed_code(stage: str, path: str) -> list[str]:
    """The modules and libraries that are others in a stage's file of pins than when the stage ran."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "pins"
        try:
            restore(path, str(read_lock()[stage].deps[path]), before)
            return changed(read_pins(before), read_pins(Path(path)))
        except (InputError, KeyError, OSError, ValueError):  # never run, or by a version without such files
            return [f"the code of {stage}"]


def in_words(found: Mapping[str, Sequence[str]]) -> str:
    """What is out of date, on one line."""
    parts = []
    for kind, names in found.items():
        more = f" and {len(names) - NAMED_CAUSES} more" if len(names) > NAMED_CAUSES else ""
        parts.append(f"{kind}: {', '.join(names[:NAMED_CAUSES])}{more}" if names else kind)
    return "; ".join(parts) or "nothing"


def repro(pull: bool, environment: dict[str, str], *targets: str) -> Ran:
    """Run what is out of date; what DVC and the stages print is passed on.

    A process of its own, whose output is read, and not DVC's `Repo.reproduce`: that returns the stages, but does not
    tell those it ran from those it restored, nor what the one that failed printed, and it hides Ctrl-C from us.

    Args:
        pull: whether there is a remote, which may have the results of an earlier run of a stage.
        environment: variables for the stages, beside those of this process.
        targets: the stages to bring up to date, with those before them; all where none is named.

    Raises:
        InputError: a stage fails.
        StoppedError: a signal came.
    """
    lines: list[str] = []
    # A stage finds the project's code as we did, and tells its progress while it works.
    with child(
        [*DVC, "repro", *(["--pull"] if pull else []), *targets],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
    ) as process:
        reader = threading.Thread(target=_pass_on, args=(process.stdout, lines))
        reader.start()
        await_child(process)
    reader.join()
    raise_if_stopped("the next retraining continues from here")
    status = process.returncode
    if status:
        told = [line for line in lines if re.match(r"(error|ERROR): ", line)] or lines[-1:]
        raise InputError(f"dvc repro failed: {without_secrets('; '.join(told))}")
    text = "\n".join(lines)
    return Ran(
        tuple(re.findall(r"^Running stage '(.+)'", text, re.MULTILINE)),
        tuple(re.findall(r"^Stage '(.+)' is cached", text, re.MULTILINE)),
    )


def _pass_on(printed: IO[str], lines: list[str]) -> None:
    for line in printed:
        lines.append(line.rstrip())
        with suppress(OSError):  # a terminal that was closed
            print(line, end="", flush=True)


def repro_afresh(folder: Path, targets: Sequence[str], alone: bool, environment: dict[str, str]) -> None:
    """Run stages of another checkout, whatever caches have; what they print goes to standard error.

    With `alone`, the stages before them do not run. `environment` has all variables of the stages.

    Raises:
        InputError: a stage fails.
    """
    command = [*DVC, "repro", "--force", "--no-run-cache", "--no-commit"]
    command += [*(["--single-item"] if alone else []), *targets]
    if run_child(command, cwd=folder, env=environment, stdout=sys.stderr, stderr=None).returncode:
        raise InputError("a stage failed when the run was made again; its message stands above")


@contextmanager
def repository() -> "Iterator[Repo]":
    """DVC's repository here; what fails in it until the block ends is one line."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    quieten_dvc()
    try:
        with Repo(os.curdir) as repo:
            yield repo
    except (DvcException, OSError) as error:
        text = one_line(error) or type(error).__name__
        raise InputError(f"DVC failed: {without_secrets(text)}") from None


def _hash(entry: Mapping[str, Any]) -> str | None:
    """Of a file here its MD5; of a URL what its server says of it."""
    return entry.get("md5") or entry.get("checksum") or entry.get("etag")
