"""The branch that retraining keeps its results on: where it starts from, and how it gets to the remote.

The branch holds every commit that triggered a retraining, merged, and after each the results: dvc.lock, metrics.json,
history.csv, and warm_start.json, which says what trainings began with. Merging happens in a worktree of its own, so
that a conflict, or a kill, leaves the checkout as it was.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pipeline.provenance.inputs import INPUTS_ONLY
from pipeline.runtime.errors import InputError
from pipeline.runtime.urls import without_secrets

# What `commit_results` commits: of data/ only what git does not ignore.
RESULTS = ("dvc.lock", "warm_start.json", "data")
RESULT_FILES = ("dvc.lock", "warm_start.json", "data/*/metrics.json", "data/*/history.csv")
WORKTREE = Path(".rnnlm/retrain-merge")
# A commit of ours is nobody's to ask about; and DVC's own hooks would check data out behind our back.
QUIET = ("-c", "core.hooksPath=/dev/null")
IDENTITY = {"NAME": "rnnlm retrain", "EMAIL": "retrain@rnnlm.invalid"}  # where git knows none
FASTER = ("[rejected]", "cannot lock ref", "incorrect old value")  # of a push: the branch has moved meanwhile


@dataclass(frozen=True)
class Start:
    """What a retraining begins with.

    Attributes:
        commit: of branch and trigger, merged.
        before: the tip of the branch; None where there is none yet.
        merged: the commits that were merged into it, or none where it had them already.
    """

    commit: str
    before: str | None
    merged: tuple[str, ...]


def check_clean() -> None:
    """Refuse to go on with changes that no commit names.

    Raises:
        InputError: this is no git repository, it has no commit, or an input that git tracks was changed since.
    """
    if _git("rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise InputError("retraining needs a git repository with a commit here; `git init`, add and commit")
    changed = [line[3:] for line in _out("status", "--porcelain", "-uno", "--", *INPUTS_ONLY).splitlines()]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(f"{changed[0]}{more}: changed, but not committed; commit or stash first, then retrain")


def head() -> str:
    """The commit that is checked out."""
    return _out("rev-parse", "HEAD")


def remote_name() -> str | None:
    """`origin`, or the only remote; None where there is none, or no telling which."""
    names = _out("remote").split()
    return "origin" if "origin" in names else names[0] if len(names) == 1 else None


def fetch(remote: str, branch: str) -> None:
    """Bring what the remote knows of the branch up to date; a shallow clone becomes a whole one, so it can merge.

    Raises:
        InputError: the remote cannot be reached.
    """
    if _out("rev-parse", "--is-shallow-repository") == "true":
        _out("fetch", "--quiet", "--unshallow", remote)
    tracking = f"refs/remotes/{remote}/{branch}"
    found = _git("ls-remote", "--exit-code", "--heads", remote, f"refs/heads/{branch}")
    if found.returncode == 2:  # says git where the remote has no such branch
        _git("update-ref", "-d", tracking)
    elif found.returncode:
        raise InputError(f"git cannot reach {remote}: {_reason(found)}")
    else:
        _out("fetch", "--quiet", remote, f"+refs/heads/{branch}:{tracking}")


def merge(remote: str | None, branch: str, trigger: str) -> Start:
    """The branch's tip merged with the commit that triggered; the checkout stays as it is.

    Where both sides changed a result (`RESULT_FILES`), that of the branch stays: `dvc repro`
    then says what is out of date.

    Args:
        remote: whose branch counts, as last fetched; None where there is only this clone's own.
        branch: its name.
        trigger: a commit.

    Raises:
        InputError: the two cannot be merged.
    """
    there = _commit(f"refs/remotes/{remote}/{branch}") if remote else None
    here = _commit(f"refs/heads/{branch}")
    tips = [tip for tip in (there, here) if tip]
    if there and here and _is_ancestor(there, here):
        tips = [here]  # results that were never pushed
    start = tips[0] if tips else trigger
    others = tuple(dict.fromkeys(tip for tip in (*tips[1:], trigger) if not _is_ancestor(tip, start)))
    commit = _merged(start, others, branch) if others else start
    return Start(commit, tips[0] if tips else None, others)


def check_out(branch: str, commit: str) -> None:
    """Go to the branch, at `commit`. Results in the checkout that differ from it go; DVC's cache has them."""
    _out("checkout", "--quiet", "--force", "--no-track", "-B", branch, commit)


def commit_results(message: str) -> bool:
    """Commit dvc.lock and the small results in data/; says whether there was anything new."""
    _out("add", "--all", "--", *(path for path in RESULTS if Path(path).exists()))
    if _git("diff", "--cached", "--quiet").returncode == 0:
        return False
    _out("commit", "--quiet", "--message", message, environment=_identity())
    return True


def push(remote: str, branch: str) -> bool:
    """Push the branch; says whether the remote took it: it does not where somebody else was faster.

    Raises:
        InputError: it fails for any other reason.
    """
    if _commit(f"refs/remotes/{remote}/{branch}") == head():
        return True
    done = _git("push", "--quiet", remote, f"refs/heads/{branch}:refs/heads/{branch}")
    if done.returncode and any(words in done.stderr for words in FASTER):
        return False
    if done.returncode:
        raise InputError(f"git cannot push {branch} to {remote}: {_reason(done)}")
    return True


def short(commit: str) -> str:
    """A commit as a person reads it."""
    return commit[:8]


def _merged(start: str, others: Sequence[str], branch: str) -> str:
    _remove_worktree()
    _out("worktree", "add", "--quiet", "--detach", str(WORKTREE), start)
    try:
        for other in others:
            _merge_one(other, branch)
        return _out("-C", str(WORKTREE), "rev-parse", "HEAD")
    finally:
        _remove_worktree()


def _merge_one(other: str, branch: str) -> None:
    # Results are whole or wrong: half of one dvc.lock and half of another is neither.
    attributes = WORKTREE.with_suffix(".attributes")
    attributes.write_text("".join(f"{pattern} -merge\n" for pattern in RESULT_FILES), encoding="utf-8")
    inside = ("-C", str(WORKTREE))
    settings = ("-c", f"core.attributesFile={attributes.resolve()}")
    # Merged again after a kill, the same commits give the same commit: runs in MLflow may name it already.
    when = _out("show", "-s", "--format=%cI", other)
    signed = _identity() | {f"GIT_{who}_DATE": when for who in ("AUTHOR", "COMMITTER")}
    message = f"Merge {short(other)} into {branch}"
    done = _git(*inside, *settings, "merge", "--quiet", "-m", message, other, environment=signed)
    attributes.unlink()
    if done.returncode == 0:
        return
    conflicts = _out(*inside, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")[:-1]
    inputs = [path for path in conflicts if not any(fnmatch(path, pattern) for pattern in RESULT_FILES)]
    if inputs or not conflicts:
        what = f"both changed {', '.join(inputs)}" if inputs else _reason(done)
        raise InputError(
            f"{short(other)} cannot be merged into {branch}: {what}; merge them by hand (`git switch {branch}`, "
            f"`git merge {short(other)}`), push {branch}, then retrain"
        )
    for path in conflicts:
        if _git(*inside, "checkout", "--ours", "--", path).returncode:  # the branch has removed it
            _out(*inside, "rm", "--quiet", "--", path)
        else:
            _out(*inside, "add", "--", path)
    _out(*inside, "commit", "--quiet", "-m", message, environment=signed)


def _remove_worktree() -> None:
    _git("worktree", "remove", "--force", str(WORKTREE))
    shutil.rmtree(WORKTREE, ignore_errors=True)
    _git("worktree", "prune")


def _commit(ref: str) -> str | None:
    done = _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else None


def _is_ancestor(commit: str, of: str) -> bool:
    return _git("merge-base", "--is-ancestor", commit, of).returncode == 0


def _out(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """What git prints, without the last line's end.

    Raises:
        InputError: git fails.
    """
    done = _git(*arguments, environment=environment)
    if done.returncode:
        verb = next(word for word in arguments if word[0] not in "-." and "=" not in word)
        raise InputError(f"git {verb} fails: {_reason(done)}")
    return done.stdout.removesuffix("\n")


def _git(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"} | (environment or {})
    try:
        return subprocess.run(["git", *QUIET, *arguments], capture_output=True, text=True, env=settings)
    except FileNotFoundError:
        raise InputError("retraining needs git; install it") from None


def _identity() -> dict[str, str]:
    """Who commits, where nobody has told git: CI machines are nobody."""
    unknown = {part: value for part, value in IDENTITY.items() if _git("config", f"user.{part.lower()}").returncode}
    names = {f"GIT_{who}_{part}": value for part, value in unknown.items() for who in ("AUTHOR", "COMMITTER")}
    return {name: value for name, value in names.items() if name not in os.environ}


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """git's own words on one line: from its first `fatal:` or `error:`, where it has one."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "!"))] or lines
    return without_secrets("; ".join(told[:2]) or f"status {done.returncode}")
