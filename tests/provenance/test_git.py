"""What git tells of the folder, without leaving a trace in it."""

import subprocess
from pathlib import Path

import pytest

from pipeline.provenance import git
from pipeline.provenance.dvc import dvc_digest
from pipeline.runtime.errors import InputError


def run(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    run("init", "-q")
    Path("code.py").write_text("1\n")
    run("add", "-A")
    run("commit", "-qm", "one")
    return tmp_path


def test_the_patch_makes_of_the_commit_what_lies_here(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("gone.py").write_text("0\n")
    Path(".gitignore").write_text("ignored\n")
    run("add", "-A")
    run("commit", "-qm", "two")
    Path("gone.py").unlink()
    Path("code.py").write_text("2\n")
    Path("staged.py").write_text("staged\n")
    run("add", "staged.py")
    binary = bytes(range(256))
    Path("ä ö").mkdir()
    Path("ä ö/new.bin").write_bytes(binary)
    for written in ("dvc.lock", "data/models/history.csv", "ignored"):
        Path(written).parent.mkdir(parents=True, exist_ok=True)
        Path(written).write_text("no input")
    before = run("status", "--porcelain"), sorted(Path(".git").rglob("*"))

    patch = git.changes().patch

    assert (run("status", "--porcelain"), sorted(Path(".git").rglob("*"))) == before
    other = tmp_path_factory.mktemp("other")
    run("worktree", "add", "-q", "--detach", str(other / "tree"))
    (other / "patch").write_bytes(patch)
    run("-C", str(other / "tree"), "apply", str(other / "patch"))
    files = {path.relative_to(other / "tree") for path in (other / "tree").rglob("*") if path.is_file()}
    assert files == {Path(name) for name in (".git", ".gitignore", "code.py", "staged.py", "ä ö/new.bin")}
    assert (other / "tree/ä ö/new.bin").read_bytes() == binary
    assert (other / "tree/code.py").read_text() == "2\n"


def test_no_change_no_patch(repository: Path) -> None:
    Path("dvc.lock").write_text("x")
    assert git.changes().patch == b""


def test_secrets_and_corpora_stay_out_of_the_patch(repository: Path) -> None:
    Path("code.py").write_text("2\n")
    for name in (".env", "my_credentials.json", "server.pem"):
        Path(name).write_text("hunter2")
    Path("corpus.txt").write_bytes(b"x" * (git.LARGEST_NEW_FILE + 1))
    found = git.changes()
    assert b"code.py" in found.patch
    assert b"hunter2" not in found.patch
    assert b"corpus.txt" not in found.patch
    digest = dvc_digest(Path("corpus.txt"))
    # Not even a hash of what may be a short secret.
    assert found.left_out == {".env": None, "my_credentials.json": None, "server.pem": None, "corpus.txt": digest}


def test_outside_of_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.commit_of("HEAD") is None
    assert git.changes() == git.Changes()


def test_without_git_there_is_no_commit_and_a_command_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git.commit_of("HEAD") == run("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(repository))
    assert git.commit_of("HEAD") is None
    with pytest.raises(
        InputError, match=r"git status failed: git cannot be run \(No such file or directory\); install"
    ):
        git.changed_inputs()


def test_a_failure_is_one_line_in_the_words_of_git_without_secrets(repository: Path) -> None:
    with pytest.raises(InputError, match=r"^git fetch failed: fatal: unable to access") as caught:
        git.output("fetch", "https://me:hunter2@127.0.0.1:1/x.git?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worktree_has_the_commit_and_vanishes_also_after_a_kill(repository: Path) -> None:
    first, tree = run("rev-parse", "HEAD"), Path("tree")
    Path("code.py").write_text("2\n")
    run("commit", "-qam", "two")
    run("worktree", "add", "-q", "--detach", str(tree))  # what a killed process left
    run("worktree", "lock", str(tree))
    with git.worktree(tree, first):
        assert (tree / "code.py").read_text() == "1\n"
    assert not tree.exists()
    assert len(run("worktree", "list").splitlines()) == 1
    with (
        pytest.raises(InputError, match="git worktree failed: fatal: invalid reference: 0000"),
        git.worktree(tree, "0" * 40),
    ):
        pass
    assert not tree.exists()
