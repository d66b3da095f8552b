"""What git tells of the folder, without leaving a trace in it."""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.provenance import git
from pipeline.provenance.dvc import dvc_digest
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT


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


NAMED = [
    ".env",
    ".npmrc",
    ".pgpass",
    "kubeconfig",
    "id_ecdsa",
    "secrets/prod.yaml",
    "my_credentials.json",
    "server.pem",
    ".m2/settings.xml",
    "hub_token",
    "my-api-key.txt",
]
# What looks like a secret wherever it stands, in pieces, so that this file holds none.
HOLDING = {
    "code.py": "password = 'hunter2" + "hunter2'\n",
    "settings.yaml": "database:\n  password: hunter2" + "x9q\n",
    "run.sh": "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPx" + "RfiCYEXAMPLEKEY\n",
    "notes.txt": "-----BEGIN OPENSSH" + " PRIVATE KEY-----\nhunter2\n",
    "store.toml": "uri = 'postgresql://me:" + "hunter2@host/db'\n",
    "hub.txt": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567\n",
    "Makefile": "export MLFLOW_TRACKING_TOKEN=x9" + "yzabcdefghijklmn\n",
    "settings.xml": "<server><password>hunter2" + "</password></server>\n",
    "utf-16.ini": "[db]\npassword = hunter2" + "xyz\n",
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("state", ["new", "changed", "deleted", "staged"])
def test_what_is_named_like_a_secret_stays_out_of_the_patch(repository: Path, name: str, state: str) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    if state != "new":
        path.write_text("hunter1\n")
        run("add", "-f", name)
        if state != "staged":
            run("commit", "-qm", "a secret, long ago")
    Path("code.py").write_text("2\n")
    if state == "deleted":
        path.unlink()
    else:
        path.write_text("hunter2\n")
    found = git.changes()
    assert b"code.py" in found.patch
    assert b"hunter" not in found.patch
    # Not even a hash of what may be a short secret.
    assert found.left_out == {name: None}


@pytest.mark.parametrize("name", HOLDING)
@pytest.mark.parametrize("state", ["new", "changed", "removed", "beside"])
def test_what_holds_a_secret_stays_out_of_the_patch(repository: Path, name: str, state: str) -> None:
    path, encoding = Path(name), "utf-16" if name == "utf-16.ini" else "utf-8"
    before = {"new": None, "changed": "0\n", "removed": HOLDING[name], "beside": HOLDING[name]}[state]
    if before is not None:
        path.write_text(before, encoding)
        run("add", "-A")
        run("commit", "-qm", "two")
    if state == "removed" and encoding == "utf-16":
        pytest.skip("what went from a binary file stands nowhere in its patch as text")
    now = {"removed": "1\n", "beside": HOLDING[name] + "\n# a remark\n"}.get(state, HOLDING[name])
    path.write_text(now, encoding)
    Path("other.py").write_text("2\n")
    found = git.changes()
    assert b"other.py" in found.patch
    assert name.encode() not in found.patch
    assert found.left_out == {name: None}


@pytest.mark.parametrize("name", ["code.py", "hub.txt"])
def test_a_line_that_a_person_lets_through_is_no_secret(repository: Path, name: str) -> None:
    Path(name).write_text(HOLDING[name].rstrip() + "  # pragma: allowlist secret\n")
    assert git.changes().left_out == {}


def test_how_a_person_likes_to_see_differences_changes_no_patch(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path(".gitattributes").write_text("*.nb diff=shown\n")
    Path("a.nb").write_text("aaa\n")
    run("add", "-A")
    run("commit", "-qm", "two")
    for name, value in {"noprefix": "true", "shown.textconv": "sed s/a/b/", "external": "false"}.items():
        run("config", f"diff.{name}", value)
    Path("a.nb").write_text("aaaa\n")
    tree = tmp_path_factory.mktemp("other") / "tree"
    run("worktree", "add", "-q", "--detach", str(tree))
    (tree.parent / "patch").write_bytes(git.changes().patch)
    run("-C", str(tree), "apply", str(tree.parent / "patch"))
    assert (tree / "a.nb").read_text() == "aaaa\n"


def test_files_of_a_repository_inside_are_said_to_be_missing(repository: Path) -> None:
    def inside(*arguments: str) -> None:
        run("-C", "inside", *arguments)

    lack = "is another repository, whose files no patch of this one has"
    Path("inside").mkdir()
    inside("init", "-q")
    Path("inside/code.py").write_text("1\n")
    inside("add", "-A")
    inside("commit", "-qm", "one")
    assert git.changes().incomplete == f"inside/ {lack}"
    run("-c", "protocol.file.allow=always", "submodule", "add", "-q", "./inside")
    run("commit", "-qm", "a submodule")
    assert git.changes() == git.Changes()
    run("config", "diff.ignoreSubmodules", "all")
    Path("inside/code.py").write_text("2\n")
    assert git.changes().incomplete == f"inside {lack}"


def test_any_number_of_files_can_be_left_out(repository: Path) -> None:
    folder = Path("f" * 240)
    folder.mkdir()
    for number in range(1200):
        (folder / f"{number}.pem").write_text("x")
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, hard))  # so that a command line has 256 kB
    try:
        found = git.changes()
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    assert (found.patch, len(found.left_out), found.incomplete) == (b"", 1200, "")


def test_a_change_far_from_a_secret_is_in_the_patch(repository: Path) -> None:
    lines = [f"line{number} = {number}\n" for number in range(20)]
    Path("code.py").write_text("".join([HOLDING["code.py"], *lines]))
    run("commit", "-qam", "a test's password, say")
    Path("code.py").write_text("".join([HOLDING["code.py"], *lines, "new = 1\n"]))
    found = git.changes()
    assert b"+new = 1" in found.patch
    assert found.left_out == {}


def test_the_patch_has_a_limit_and_the_largest_files_are_left_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "LARGEST_PATCH", 10_000)
    Path("gone.txt").write_text("many words\n" * 2000)
    Path("tracked.txt").write_text("1\n")
    run("add", "-A")
    run("commit", "-qm", "two")
    Path("gone.txt").unlink()
    Path("code.py").write_text("2\n")
    Path("tracked.txt").write_text("text\n" * 3000)
    for number in range(6):
        Path(f"new{number}.txt").write_text("line\n" * 600)
    found = git.changes()
    assert len(found.patch) <= 10_000
    assert b"code.py" in found.patch
    assert b"new0.txt" in found.patch
    assert set(found.left_out) == {"gone.txt", "tracked.txt", "new3.txt", "new4.txt", "new5.txt", "new2.txt"} - (
        set() if b"new2.txt" not in found.patch else {"new2.txt"}
    )
    assert found.left_out["tracked.txt"] == dvc_digest(Path("tracked.txt"))


def test_a_file_that_became_a_link_is_in_the_patch(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    Path("code.py").unlink()
    Path("code.py").symlink_to("other.py")
    Path("other.py").write_text("3\n")
    tree = tmp_path_factory.mktemp("other") / "tree"
    run("worktree", "add", "-q", "--detach", str(tree))
    (tree.parent / "patch").write_bytes(git.changes().patch)
    run("-C", str(tree), "apply", str(tree.parent / "patch"))
    assert (tree / "code.py").readlink() == Path("other.py")
    assert (tree / "code.py").read_text() == "3\n"


@pytest.mark.slow
def test_the_project_itself_holds_nothing_that_looks_like_a_secret(repository: Path) -> None:
    for path in sorted(PROJECT.glob("*/**/*.py")) + sorted(PROJECT.glob("*.*")) + sorted(PROJECT.glob("docs/*.md")):
        name = path.relative_to(PROJECT)
        known = name.parts[0] in ("pipeline", "stages", "docs", "benchmarks", "tools") or len(name.parts) == 1
        if path.is_file() and path.name != ".git" and known:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(path.read_bytes())
    assert git.changes().left_out == {}


def test_names_that_are_not_utf8_are_no_obstacle(repository: Path) -> None:
    large, small = (os.fsdecode(b"%b\xe9.txt" % name) for name in (b"large", b"small"))
    Path(large).write_bytes(b"x" * (git.LARGEST_PATCH + 1))
    Path(small).write_text("new\n")
    found = git.changes()
    assert found.left_out == {large: hashlib.md5(Path(large).read_bytes()).hexdigest()}
    assert b"+new" in found.patch
    assert found.incomplete == ""
    assert len(git.changed_inputs()) == 2


def test_a_patch_that_lacks_something_says_so_in_the_words_of_git(repository: Path) -> None:
    Path("code.py").write_text("2\n")
    nested = Path("nested")  # a repository without a commit, which git cannot add
    nested.mkdir()
    run("-C", "nested", "init", "-q")
    (nested / "file").write_text("x")
    found = git.changes()
    assert b"+2" in found.patch
    assert found.incomplete.startswith("error: 'nested/' does not have a commit checked out")


def test_a_repository_that_git_refuses_is_not_the_same_as_none(
    repository: Path, monkeypatch: pytest.MonkeyPatch
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


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_worktree_that_stays_goes_on_and_is_never_taken_for_the_repository_around_it(repository: Path) -> None:
    tree = Path(".rnnlm/tree").resolve()
    (git.kept_worktree(tree) / "made.txt").write_text("a result")
    tracked = tree / "code.py"
    tracked.write_text("changed by who works there")
    assert git.kept_worktree(tree) == tree
    assert tracked.read_text() == "changed by who works there"
    assert (tree / "made.txt").exists()
    run("commit", "-q", "--allow-empty", "-m", "another")
    git.kept_worktree(tree)
    assert run("-C", str(tree), "rev-parse", "HEAD") == run("rev-parse", "HEAD")
    assert tracked.read_text() == Path("code.py").read_text()
    assert (tree / "made.txt").exists()
    # Without its .git, as a kill may leave it, git would work on the files here.
    (tree / ".git").unlink()
    Path("code.py").write_text("not committed")
    git.kept_worktree(tree)
    assert Path("code.py").read_text() == "not committed"
    assert [path.name for path in tree.iterdir() if path.name in (".git", "made.txt")] == [".git"]


def test_a_worktree_is_not_taken_from_what_a_killed_process_has_started(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, tree = run("rev-parse", "HEAD"), Path("tree")
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


def test_a_project_may_be_a_folder_of_a_larger_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = repository / "ml" / "words"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    for name in ("kept.py", "params.yaml"):
        Path(name).write_text("1\n")
    run("add", "-A")
    run("commit", "-qm", "two")
    Path("params.yaml").write_text("2\n")
    Path("new.py").write_text("3\n")
    (repository / "code.py").write_text("another project's\n")
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
