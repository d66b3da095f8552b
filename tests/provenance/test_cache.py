"""What may be removed from DVC's cache."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import yaml

from pipeline.provenance.cache import free_objects, unused_objects
from pipeline.provenance.dvc import read_lock
from tests.provenance.conftest import run


def cached(content: bytes, suffix: str = "") -> str:
    """The hash of what is put into DVC's cache."""
    digest = hashlib.md5(content).hexdigest() + suffix
    path = Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def unused() -> set[str]:
    return {path.parent.name + path.name for path in unused_objects((), time.time() + 10)}


def test_what_git_has_anywhere_is_used(stages: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    def locked(content: str) -> None:
        """Put the hash of a file in the cache into dvc.lock, and stage that."""
        outs = [{"path": "out", "hash": "md5", "md5": cached(content.encode())}]
        Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"copy": {"cmd": "x", "outs": outs}}}))
        git("add", "-A")

    def commit(content: str) -> None:
        locked(content)
        git("commit", "-qm", content)

    git("init", "-q", "-b", "main")
    Path(".dvc/config").write_text("")
    Path(".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n")
    commit("before")
    commit("main")
    for name in ("branch", "refs/tags/tag", "refs/remotes/origin/main", "refs/exps/12/34/name", "worktree", "reflog"):
        if name == "reflog":
            git("reflog", "expire", "--expire=now", "--all")
        commit(name)
        if name == "worktree":
            git("worktree", "add", "-q", "--detach", "../worktree")
        elif name != "reflog":
            git("update-ref", name if "/" in name else f"refs/heads/{name}", "HEAD")
        git("reset", "-q", "--hard", "HEAD~")
    for name in ("stash", "later stash"):
        locked(name)
        git("reset", "-q")
        git("stash", "-q")
    locked("staged")
    locked_text = Path("dvc.lock").read_text()
    outs = cached(b"workspace")
    Path("dvc.lock").write_text(locked_text.replace(hashlib.md5(b"staged").hexdigest(), outs))
    nobody, folder = cached(b"nobody"), json.dumps([{"md5": cached(b"of a folder"), "relpath": "a"}]).encode()
    kept = cached(folder, ".dir")
    assert unused() == {nobody, kept, hashlib.md5(b"of a folder").hexdigest()}
    assert [path.name for path in unused_objects([kept], time.time() + 10)] == [nobody[2:]]
    assert unused_objects((), time.time() - 1000) == []


def test_what_is_used_by_now_is_not_freed(stages: Path) -> None:
    run("repro")
    (digest,) = map(str, read_lock()["train@x"].outs.values())
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").unlink()
    paths = unused_objects((), time.time() + 10)
    assert digest[2:] in [path.name for path in paths]
    Path("dvc.lock").write_text(lock)  # as a `dvc repro` does that has found its results in the cache
    free_objects(paths, ())
    assert all(path.exists() for path in paths)
    Path("dvc.lock").unlink()
    free_objects(paths, ())
    assert not any(path.exists() for path in paths)
