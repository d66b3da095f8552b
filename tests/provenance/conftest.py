"""DVC in an empty folder, and git in one with a file."""

import subprocess
from pathlib import Path

import pytest
from dvc.cli import main


def run(*arguments: str) -> None:
    """A command of DVC, in this process."""
    assert main([*arguments, "-q"]) == 0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    run("init", "--no-scm")
    return tmp_path


@pytest.fixture
def stages(repository: Path) -> Path:
    """A pipeline that has not run yet: `copy` of a folder, then `train@x`, which fails where the text is `bad`."""
    Path("params.yaml").write_text("train: {rate: 1.0e-3}\nother: 1\n")
    Path("in").mkdir()
    Path("in/a").write_text("good")
    Path("dvc.yaml").write_text(
        "stages:\n  copy:\n    cmd: cp -r in out\n    deps: [in]\n    outs: [out]\n"
        "  train:\n    foreach: [x]\n    do:\n"
        "      cmd: \"grep -q good out/a && cp out/a model || (echo 'error: bad text' >&2; exit 3)\"\n"
        "      deps: [out]\n      params: [train]\n      outs: [model]\n"
    )
    return repository


def run_git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    run_git("init", "-q")
    Path("code.py").write_text("1\n")
    run_git("add", "-A")
    run_git("commit", "-qm", "one")
    return tmp_path
