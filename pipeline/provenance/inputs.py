"""What a run was made from: code, data, libraries, machine."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

# What the pipeline and retraining themselves write says nothing about what a person put in. (What warm_start.json names
# is among the hashed inputs of a training, as data/warm_start.)
INPUTS_ONLY = (".", ":(exclude)dvc.lock", ":(exclude)warm_start.json", ":(exclude)data")
LIBRARIES = ("torch", "numpy", "nltk", "mlflow")
LONGEST_TAG = 500  # characters of a list of changed files
LARGEST_NEW_FILE = 5_000_000  # bytes; a patch is no place for a corpus
SECRETS = (
    ".env*",
    ".netrc",
    "*.pem",
    "*.key",
    "id_rsa*",
    "id_ed25519*",
    "*credentials*",
    "*secret*",
)  # names of files never copied


@dataclass(frozen=True)
class Changes:
    """What differs from the git commit in the folder: its inputs only, not what the pipeline writes.

    Attributes:
        patch: what `git apply` makes of the commit what lies here; new files that git does not ignore included.
        left_out: new files that are too large for a patch, with their MD5, or named like a secret, with None.
    """

    patch: bytes = b""
    left_out: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRecord:
    """What went into a stage and what came out, each as dvc.lock would say it.

    Attributes:
        deps: hash by path; None for one that is not there.
        outs: likewise.
        params: values by their key in params.yaml.
    """

    deps: dict[str, str | None]
    outs: dict[str, str | None]
    params: dict[str, Any]


def code_tags() -> dict[str, str]:
    """Tags that name the code: git commit, whether and where it was changed since, DVC experiment."""
    tags = {}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit.strip()
        changed = [line[3:] for line in (_git("status", "--porcelain", "--", *INPUTS_ONLY) or "").splitlines()]
        tags["git_dirty"] = "true" if changed else "false"
        if changed:
            tags["git_changed_files"] = ", ".join(changed)[:LONGEST_TAG]
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        tags["dvc_experiment"] = experiment
    return tags


def changes() -> Changes:
    """What was changed since the commit; nothing outside of a repository, or before its first commit."""
    new = (_git("ls-files", "--others", "--exclude-standard", "-z", "--", *INPUTS_ONLY) or "").split("\0")
    left_out: dict[str, str | None] = {}
    for name in filter(None, new):
        if any(fnmatch(Path(name).name.lower(), pattern) for pattern in SECRETS):
            left_out[name] = None  # the hash of a short secret gives it away
        elif Path(name).lstat().st_size > LARGEST_NEW_FILE:
            left_out[name] = dvc_digest(Path(name))
    objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    if not _git("rev-parse", "--verify", "HEAD") or objects is None:
        return Changes()
    with tempfile.TemporaryDirectory() as folder:
        # An index and a store of objects of its own: the user's are not to show that somebody looked.
        private = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects.strip(),
        }
        _git("read-tree", "HEAD", **private)
        out = (f":(exclude,literal){name}" for name in left_out)
        _git("add", "--all", "--", *INPUTS_ONLY, *out, **private)
        command = ["git", "diff", "--cached", "--binary", "--no-ext-diff", "--no-color", "HEAD"]
        patch = subprocess.run(command, capture_output=True, check=True, env=os.environ | private).stdout
    return Changes(patch, left_out)


def stage_record(name: str) -> StageRecord:
    """Hash what a stage of dvc.yaml reads and writes, as it lies in the folder now: dvc.lock is written only later.

    Args:
        name: such as `train@lstm`.

    Raises:
        DvcException: dvc.yaml has no such stage, or cannot be read.
    """
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(os.curdir) as repo:
        stage = repo.stage.load_one("dvc.yaml", name)
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        return StageRecord(
            {dep.def_path: _digest_if_there(dep.def_path) for dep in stage.deps if dep not in params},
            {out.def_path: _digest_if_there(out.def_path) for out in stage.outs},
            {key: value for dep in params for key, value in dep.read_params().items()},
        )


def packages() -> str:
    """Every package of this process's environment, `NAME==VERSION` a line, as constraints.txt has them."""
    found = {f"{package.metadata['Name']}=={package.version}" for package in distributions()}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def machine_params() -> dict[str, str]:
    """Parameters that name the libraries and the machine of this process."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "env.python": platform.python_version(),
        **{f"env.{library}": version(library) for library in LIBRARIES},
        "machine.platform": platform.platform(),
        "machine.processor": _processor(),
        "machine.threads": str(torch.get_num_threads()),
        "machine.gpu": torch.cuda.get_device_name() if cuda else "none",
    }


def dvc_digest(path: Path) -> str:
    """The hash that DVC gives a file or folder, as in dvc.lock: MD5, of a folder that of its list of files plus `.dir`.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    listing = [{"md5": dvc_digest(files[name]), "relpath": name} for name in sorted(files)]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest()}.dir"


def fingerprint(value: Mapping[str, object]) -> str:
    """A short hash of parameters and digests: equal values, equal text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _digest_if_there(path: str) -> str | None:
    return dvc_digest(Path(path)) if Path(path).exists() else None


def _git(*arguments: str, **environment: str) -> str | None:
    """What git prints; None where there is no git or no repository."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _processor() -> str:
    """The processor's name; platform.processor() is empty on most Linux machines."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
