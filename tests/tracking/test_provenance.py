"""What a run was made from: code, digests, machine."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.tracking.provenance import code_tags, dvc_digest, machine_params


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    git("init", "-q")
    Path("code.py").write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    return tmp_path


def test_a_clean_checkout_is_named_by_its_commit(repository: Path) -> None:
    # What the pipeline writes is no change of what went in.
    Path("dvc.lock").write_text("x")
    Path("data/models").mkdir(parents=True)
    Path("data/models/history.csv").write_text("x")
    assert code_tags() == {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": "false"}


def test_changed_and_new_files_mark_the_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("code.py").write_text("2\n")
    Path("new.py").write_text("3\n")
    monkeypatch.setenv("DVC_EXP_NAME", "prone-owl")
    tags = code_tags()
    assert tags["git_dirty"] == "true"
    assert tags["git_changed_files"] == "code.py, new.py"
    assert tags["dvc_experiment"] == "prone-owl"


def test_outside_of_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert code_tags() == {}


def test_machine_and_libraries_are_named() -> None:
    params = machine_params()
    assert params["env.torch"].startswith("2.")
    assert int(params["machine.threads"]) >= 1
    assert params["machine.processor"]


def test_digests_are_those_of_dvc(repository: Path) -> None:
    folder = Path("folder")
    for name in ("b.txt", "a/b.txt", "a-b.txt", "ä/ö.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], check=True)
    Path("file").write_text("x\r\n")
    subprocess.run([*dvc, "add", "-q", "folder", "file"], check=True, capture_output=True)
    for name in ("folder", "file"):
        recorded = yaml.safe_load(Path(f"{name}.dvc").read_text())["outs"][0]["md5"]
        assert dvc_digest(Path(name)) == recorded
