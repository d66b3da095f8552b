"""DVC alone: a project of trivial stages, and this project's own graph with trivial commands in place of its stages."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.conftest import PROJECT

if TYPE_CHECKING:
    from dvc.repo import Repo

FOLDERS = {"train", "valid", "test", "warm_start", "report", "sentences"}  # outputs that are folders
IDENTITY = {"user.name": "t", "user.email": "t@example.org"}
SETTINGS = "[core]\n    analytics = false\n    check_update = false\n"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def dvc() -> "Iterator[Repo]":
    """DVC's repository in the current folder, as a new process sees it."""
    from dvc.repo import Repo

    with Repo(os.curdir) as repo:
        yield repo


def repro(*targets: str, **options: Any) -> list[str]:
    """Names of the stages that `dvc repro` runs."""
    with dvc() as repo:
        done: Any = repo.reproduce(targets=list(targets) or None, **options)
        return [stage.addressing for stage in done]


def begin(stages: dict[str, Any], **files: str) -> None:
    """Make the current folder a repository of git and DVC with these stages and files (dots in names as `__`)."""
    git("init", "-q", "-b", "main")
    for key, value in IDENTITY.items():
        git("config", key, value)
    with Path(".git/info/exclude").open("a") as excluded:
        excluded.write("*.db\n")
    (folder := Path(".dvc")).mkdir()
    (folder / "config").write_text(SETTINGS)
    (folder / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for name, content in files.items():
        Path(name.replace("__", ".")).write_text(content)
    commit("begun")


def commit(message: str) -> None:
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", message)


def graph(cells: dict[str, Any], **commands: list[str]) -> None:
    """Begin a repository with this project's own dvc.yaml, and all results there as dvc.lock says.

    Args:
        cells: of params.yaml, otherwise the project's own.
        commands: of stages, by name; the others write the names of their outputs into these.
    """
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((PROJECT / "params.yaml").read_text()) | {"cells": cells}
    for name in ("pipeline", "stages", "corpus"):
        Path(name).mkdir()
        Path(name, "file").write_text(name)
    for name, stage in stages.items():
        body = stage.get("do", stage)
        outs = [
            out if isinstance(out, str) else next(iter(out))
            for kind in ("outs", "plots", "metrics")
            for out in body.get(kind, [])
        ]
        body["cmd"] = commands.get(name, [_write(out) for out in outs])
        for key in cells if "do" in stage else [""]:
            for out in outs:
                subprocess.run(_write(out.replace("${key}", key)), shell=True, check=True)
    ignored = (PROJECT / ".gitignore").read_text()
    begin(
        stages,
        params__yaml=yaml.safe_dump(params, sort_keys=False),
        constraints__txt="",
        warm_start__json="{}",
        __gitignore=ignored,
    )
    with dvc() as repo:
        repo.commit(force=True)
    commit("results")


def _write(out: str) -> str:
    path = f"{out}/file" if Path(out).name in FOLDERS else out
    return f"mkdir -p $(dirname {path}); echo {out} > {path}"
