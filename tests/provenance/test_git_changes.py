"""What was changed since the commit, as a patch: all of it, but for secrets and what is too large."""

import hashlib
import os
import resource
from pathlib import Path

import pytest

from pipeline.provenance import git
from pipeline.provenance.dvc import dvc_digest
from tests.conftest import PROJECT
from tests.provenance.conftest import run_git


def test_the_patch_makes_of_the_commit_what_lies_here(
    committed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("gone.py").write_text("0\n")
    Path(".gitignore").write_text("ignored\n")
    run_git("add", "-A")
    run_git("commit", "-qm", "two")
    Path("gone.py").unlink()
    Path("code.py").write_text("2\n")
    Path("staged.py").write_text("staged\n")
    run_git("add", "staged.py")
    binary = bytes(range(256))
    Path("ä ö").mkdir()
    Path("ä ö/new.bin").write_bytes(binary)
    for written in ("dvc.lock", "data/models/history.csv", "ignored"):
        Path(written).parent.mkdir(parents=True, exist_ok=True)
        Path(written).write_text("no input")
    before = run_git("status", "--porcelain"), sorted(Path(".git").rglob("*"))

    patch = git.changes().patch

    assert (run_git("status", "--porcelain"), sorted(Path(".git").rglob("*"))) == before
    other = tmp_path_factory.mktemp("other")
    run_git("worktree", "add", "-q", "--detach", str(other / "tree"))
    (other / "patch").write_bytes(patch)
    run_git("-C", str(other / "tree"), "apply", str(other / "patch"))
    files = {path.relative_to(other / "tree") for path in (other / "tree").rglob("*") if path.is_file()}
    assert files == {Path(name) for name in (".git", ".gitignore", "code.py", "staged.py", "ä ö/new.bin")}
    assert (other / "tree/ä ö/new.bin").read_bytes() == binary
    assert (other / "tree/code.py").read_text() == "2\n"


def test_no_change_no_patch(committed: Path) -> None:
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
def test_what_is_named_like_a_secret_stays_out_of_the_patch(committed: Path, name: str, state: str) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    if state != "new":
        path.write_text("hunter1\n")
        run_git("add", "-f", name)
        if state != "staged":
            run_git("commit", "-qm", "a secret, long ago")
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
def test_what_holds_a_secret_stays_out_of_the_patch(committed: Path, name: str, state: str) -> None:
    path, encoding = Path(name), "utf-16" if name == "utf-16.ini" else "utf-8"
    before = {"new": None, "changed": "0\n", "removed": HOLDING[name], "beside": HOLDING[name]}[state]
    if before is not None:
        path.write_text(before, encoding)
        run_git("add", "-A")
        run_git("commit", "-qm", "two")
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
def test_a_line_that_a_person_lets_through_is_no_secret(committed: Path, name: str) -> None:
    Path(name).write_text(HOLDING[name].rstrip() + "  # pragma: allowlist secret\n")
    assert git.changes().left_out == {}


def test_how_a_person_likes_to_see_differences_changes_no_patch(
    committed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path(".gitattributes").write_text("*.nb diff=shown\n")
    Path("a.nb").write_text("aaa\n")
    run_git("add", "-A")
    run_git("commit", "-qm", "two")
    for name, value in {"noprefix": "true", "shown.textconv": "sed s/a/b/", "external": "false"}.items():
        run_git("config", f"diff.{name}", value)
    Path("a.nb").write_text("aaaa\n")
    tree = tmp_path_factory.mktemp("other") / "tree"
    run_git("worktree", "add", "-q", "--detach", str(tree))
    (tree.parent / "patch").write_bytes(git.changes().patch)
    run_git("-C", str(tree), "apply", str(tree.parent / "patch"))
    assert (tree / "a.nb").read_text() == "aaaa\n"


def test_files_of_a_repository_inside_are_said_to_be_missing(committed: Path) -> None:
    def inside(*arguments: str) -> None:
        run_git("-C", "inside", *arguments)

    lack = "is another repository, whose files no patch of this one has"
    Path("inside").mkdir()
    inside("init", "-q")
    Path("inside/code.py").write_text("1\n")
    inside("add", "-A")
    inside("commit", "-qm", "one")
    assert git.changes().incomplete == f"inside/ {lack}"
    run_git("-c", "protocol.file.allow=always", "submodule", "add", "-q", "./inside")
    run_git("commit", "-qm", "a submodule")
    assert git.changes() == git.Changes()
    run_git("config", "diff.ignoreSubmodules", "all")
    Path("inside/code.py").write_text("2\n")
    assert git.changes().incomplete == f"inside {lack}"


def test_any_number_of_files_can_be_left_out(committed: Path) -> None:
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


def test_a_change_far_from_a_secret_is_in_the_patch(committed: Path) -> None:
    lines = [f"line{number} = {number}\n" for number in range(20)]
    Path("code.py").write_text("".join([HOLDING["code.py"], *lines]))
    run_git("commit", "-qam", "a test's password, say")
    Path("code.py").write_text("".join([HOLDING["code.py"], *lines, "new = 1\n"]))
    found = git.changes()
    assert b"+new = 1" in found.patch
    assert found.left_out == {}


def test_the_patch_has_a_limit_and_the_largest_files_are_left_out(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "LARGEST_PATCH", 10_000)
    Path("gone.txt").write_text("many words\n" * 2000)
    Path("tracked.txt").write_text("1\n")
    run_git("add", "-A")
    run_git("commit", "-qm", "two")
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


def test_a_file_that_became_a_link_is_in_the_patch(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    Path("code.py").unlink()
    Path("code.py").symlink_to("other.py")
    Path("other.py").write_text("3\n")
    tree = tmp_path_factory.mktemp("other") / "tree"
    run_git("worktree", "add", "-q", "--detach", str(tree))
    (tree.parent / "patch").write_bytes(git.changes().patch)
    run_git("-C", str(tree), "apply", str(tree.parent / "patch"))
    assert (tree / "code.py").readlink() == Path("other.py")
    assert (tree / "code.py").read_text() == "3\n"


@pytest.mark.slow
def test_the_project_itself_holds_nothing_that_looks_like_a_secret(committed: Path) -> None:
    for path in sorted(PROJECT.glob("*/**/*.py")) + sorted(PROJECT.glob("*.*")) + sorted(PROJECT.glob("docs/*.md")):
        name = path.relative_to(PROJECT)
        known = name.parts[0] in ("pipeline", "stages", "docs", "benchmarks", "tools") or len(name.parts) == 1
        if path.is_file() and path.name != ".git" and known:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(path.read_bytes())
    assert git.changes().left_out == {}


def test_names_that_are_not_utf8_are_no_obstacle(committed: Path) -> None:
    large, small = (os.fsdecode(b"%b\xe9.txt" % name) for name in (b"large", b"small"))
    Path(large).write_bytes(b"x" * (git.LARGEST_PATCH + 1))
    Path(small).write_text("new\n")
    found = git.changes()
    assert found.left_out == {large: hashlib.md5(Path(large).read_bytes()).hexdigest()}
    assert b"+new" in found.patch
    assert found.incomplete == ""
    assert len(git.changed_inputs()) == 2


def test_a_patch_that_lacks_something_says_so_in_the_words_of_git(committed: Path) -> None:
    Path("code.py").write_text("2\n")
    nested = Path("nested")  # a repository without a commit, which git cannot add
    nested.mkdir()
    run_git("-C", "nested", "init", "-q")
    (nested / "file").write_text("x")
    found = git.changes()
    assert b"+2" in found.patch
    assert found.incomplete.startswith("error: 'nested/' does not have a commit checked out")
