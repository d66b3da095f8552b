"""What a run was made from: code, data, libraries, machine."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# dvc.lock and data/ are what the pipeline itself writes; they say nothing about what went in.
INPUTS_ONLY = (".", ":(exclude)dvc.lock", ":(exclude)data")
LIBRARIES = ("torch", "numpy", "nltk", "mlflow")
LONGEST_TAG = 500  # characters of a list of changed files


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


def _git(*arguments: str) -> str | None:
    """What git prints; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
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
