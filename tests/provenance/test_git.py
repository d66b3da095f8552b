"""What git tells of the folder, without leaving a trace in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.provenance import git
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT
from tests.provenance.conftest import run_git


def test_a_repository_that_git_refuses_is_not_the_same_as_none(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # a checkout of another owner
    assert git.commit_of("HEAD") is None
    assert git.changes().incomplete.startswith("fatal: detected dubious ownership in repository at ")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    monkeypatch.setenv("PATH", "/nowhere")
    assert git.changes().incomplete == "git cannot be run (No such file or directory); install it"


def test_outside_of_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.commit_of("HEAD") is None
    assert git.changes() == git.Changes()


def test_without_git_there_is_no_commit_and_a_command_says_so(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git.commit_of("HEAD") == run_git("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(committed))
    assert git.commit_of("HEAD") is None
    with pytest.raises(
        InputError, match=r"git status failed: git cannot be run \(No such file or directory\); install"
    ):
        git.changed_inputs()


def test_a_failure_is_one_line_in_the_words_of_git_without_secrets(committed: Path) -> None:
    with pytest.raises(InputError, match=r"^git fetch failed: fatal: unable to access") as caught:
        git.output("fetch", "https://me:hunter2@127.0.0.1:1/x.git?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worktree_has_the_commit_and_vanishes_also_after_a_kill(committed: Path) -> None:
    first, tree = run_git("rev-parse", "HEAD"), Path("tree")
    Path("code.py").write_text("2\n")
    run_git("commit", "-qam", "two")
    run_git("worktree", "add", "-q", "--detach", str(tree))  # what a killed process left
    run_git("worktree", "lock", str(tree))
    with git.worktree(tree, first):
        assert (tree / "code.py").read_text() == "1\n"
    assert not tree.exists()
    assert len(run_git("worktree", "list").splitlines()) == 1
    with (
        pytest.raises(InputError, match="git worktree failed: fatal: invalid reference: 0000"),
        git.worktree(tree, "0" * 40),
    ):
        pass
    assert not tree.exists()


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_worktree_that_stays_goes_on_and_is_never_taken_for_the_repository_around_it(committed: Path) -> None:
    tree = Path(".rnnlm/tree").resolve()
    (git.kept_worktree(tree) / "made.txt").write_text("a result")
    tracked = tree / "code.py"
    tracked.write_text("changed by who works there")
    assert git.kept_worktree(tree) == tree
    assert tracked.read_text() == "changed by who works there"
    assert (tree / "made.txt").exists()
    run_git("commit", "-q", "--allow-empty", "-m", "another")
    git.kept_worktree(tree)
    assert run_git("-C", str(tree), "rev-parse", "HEAD") == run_git("rev-parse", "HEAD")
    assert tracked.read_text() == Path("code.py").read_text()
    assert (tree / "made.txt").exists()
    # Without its .git, as a kill may leave it, git would work on the files here.
    (tree / ".git").unlink()
    Path("code.py").write_text("not committed")
    git.kept_worktree(tree)
    assert Path("code.py").read_text() == "not committed"
    assert [path.name for path in tree.iterdir() if path.name in (".git", "made.txt")] == [".git"]


def test_a_worktree_is_not_taken_from_what_a_killed_process_has_started(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, tree = run_git("rev-parse", "HEAD"), Path("tree")
    # It ignores SIGTERM, and would notice that its folder goes.
    worker = "trap '' TERM; echo $$; while test -e code.py; do sleep 0.02; done; touch ../deleted"
    script = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.provenance import git\n"
        "from pipeline.runtime import stopping\nstopping.GROUP_SECONDS = 2\n"
        "with git.worktree(Path('tree'), sys.argv[1]):\n"
        "    stopping.run_child(['sh', '-c', sys.argv[2]], cwd='tree', stdout=None)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, first, worker],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
    monkeypatch.setattr(git, "LEFT_SECONDS", 0.0)
    with (
        pytest.raises(InputError, match=r"^process \d+ works in tree, which has to go; end it"),
        git.worktree(tree, first),
    ):
        pass
    assert lives(pid)
    monkeypatch.setattr(git, "LEFT_SECONDS", 60.0)
    with git.worktree(tree, first):
        assert not lives(pid)
    assert not Path("deleted").exists()


def test_a_project_may_be_a_folder_of_a_larger_repository(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = committed / "ml" / "words"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    for name in ("kept.py", "params.yaml"):
        Path(name).write_text("1\n")
    run_git("add", "-A")
    run_git("commit", "-qm", "two")
    Path("params.yaml").write_text("2\n")
    Path("new.py").write_text("3\n")
    (committed / "code.py").write_text("another project's\n")
    assert git.changed_inputs() == ["params.yaml", "new.py"]
    assert git.changed_inputs(new=False) == ["params.yaml"]
    made = git.changes()
    assert (made.left_out, made.incomplete) == ({}, "")
    with git.worktree(Path("tree").absolute(), "HEAD") as laid_out:
        git.apply_changes(laid_out, made.patch)
        assert {path.name: path.read_text() for path in laid_out.iterdir()} == {
            "kept.py": "1\n",
            "params.yaml": "2\n",
            "new.py": "3\n",
        }
        assert (laid_out.parents[1] / "code.py").read_text() == "1\n"


def test_a_checkout_has_the_bytes_of_the_commit_whatever_git_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a person's own text, which may end its lines as it likes."""
    files = {"dvc.lock": b"a: 1\n", ".ci/run": b"#!/bin/sh\n", "corpus/mine.csv": b"body\r\nHello.\r\n"}
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.copy(PROJECT / ".gitattributes", tmp_path / "first")
    commands = ["init -q first", "-C first add -A", "-C first commit -qm one"]
    for command in (*commands, "clone -q -c core.autocrlf=true first second"):
        subprocess.run(["git", *command.split()], check=True)
    assert {name: (tmp_path / "second" / name).read_bytes() for name in files} == files
