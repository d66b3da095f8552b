"""The branch that retraining keeps its results on: where it starts from, and how it gets to the remote.

The branch holds every commit that triggered a retraining, merged, and after each the results: dvc.lock, metrics.json,
history.csv, and warm_start.json, which says what trainings began with. Merging happens in a worktree of its own, so
that a conflict, or a kill, leaves the checkout as it was.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pipeline.provenance import git
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import DATA, LOCK, WARM_START_REQUEST

RESULT_FILES = (f"{LOCK}", f"{WARM_START_REQUEST}", f"{DATA}/*/metrics.json", f"{DATA}/*/history.csv")
SET_ASIDE = Path(".rnnlm/set-aside")
NAMED_FILES = 5  # that a message names
PUSHES, PAUSE_SECONDS = 3, 1.0
WORKTREE = Path(".rnnlm/retrain-merge")
LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}  # names are names, whatever stars they have
IDENTITY = {"NAME": "rnnlm retrain", "EMAIL": "retrain@rnnlm.invalid"}  # where git knows none


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
    if told := git.unreadable():
        raise InputError(f"git cannot read the repository here: {told}")
    if git.commit_of("HEAD") is None:
        raise InputError("retraining needs git and a repository with a commit here; `git init`, add and commit")
    changed = git.changed_inputs(new=False)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(f"{changed[0]}{more}: changed, but not committed; commit or stash first, then retrain")


def head() -> str:
    """The commit that is checked out."""
    return git.output("rev-parse", "HEAD")


def position() -> str:
    """The branch that is checked out, or where none is the commit: what `git checkout` takes; empty without git."""
    done = git.run("symbolic-ref", "--quiet", "--short", "HEAD")
    return short(head()) if done.returncode == 1 else os.fsdecode(done.stdout).strip()


def remote_name() -> str | None:
    """`origin`, or the only remote; None where there is none, or no telling which."""
    names = git.output("remote").split()
    return "origin" if "origin" in names else names[0] if len(names) == 1 else None


def fetch(remote: str, branch: str) -> None:
    """Bring what the remote knows of the branch up to date; a shallow clone becomes a whole one, so it can merge.

    Raises:
        InputError: the remote cannot be reached.
    """
    if git.output("rev-parse", "--is-shallow-repository") == "true":
        git.output("fetch", "--quiet", "--unshallow", remote)
    tracking = f"refs/remotes/{remote}/{branch}"
    found = git.run("ls-remote", "--exit-code", "--heads", remote, f"refs/heads/{branch}")
    if found.returncode == 2:  # says git where the remote has no such branch
        git.run("update-ref", "-d", tracking)
    elif found.returncode:
        raise InputError(f"git cannot reach {remote}: {git.reason(found)}")
    else:
        git.output("fetch", "--quiet", remote, f"+refs/heads/{branch}:{tracking}")


def merge(remote: str | None, branch: str, trigger: str) -> Start:
    """The branch's tip merged with the commit that triggered; the checkout stays as it is.

    Where both sides changed a result (`RESULT_FILES`), that of the branch stays: `dvc repro` then says what is out of
    date.

    Args:
        remote: whose branch counts, as last fetched; None where there is only this clone's own.
        branch: its name.
        trigger: the commit.

    Raises:
        InputError: the two cannot be merged.
    """
    there = git.commit_of(f"refs/remotes/{remote}/{branch}") if remote else None
    here = git.commit_of(f"refs/heads/{branch}")
    tips = [tip for tip in (there, here) if tip]
    if there and here and _is_ancestor(there, here):
        tips = [here]  # results that were never pushed
    start = tips[0] if tips else trigger
    others = tuple(dict.fromkeys(tip for tip in (*tips[1:], trigger) if not _is_ancestor(tip, start)))
    commit = start
    if others:
        with git.worktree(WORKTREE, start):
            for other in others:
                _merge_one(other, branch)
            commit = git.output("-C", str(WORKTREE), "rev-parse", "HEAD")
    return Start(commit, tips[0] if tips else None, others)


def check_out(branch: str, commit: str) -> Path | None:
    """Go to the branch, at `commit`, as git does without force.

    Returns:
        The folder where results are now that were in its way: those of a kill, or of a person who has not committed.

    Raises:
        InputError: a file here, ignored ones included, is in its way, and no commit has it.
    """
    changed = _names("diff", "--name-only", "--relative", "-z", "HEAD", "--", *RESULT_FILES)
    there = set(_names("ls-tree", "-r", "--name-only", "-z", commit))
    new = [name for name in _names("ls-files", "--others", "-z", "--", *RESULT_FILES) if name in there]
    folder = set_aside([Path(name) for name in (*changed, *new)])
    if changed:
        git.output("restore", "--source=HEAD", "--staged", "--worktree", "--", *changed, environment=LITERAL)
    done = git.run("checkout", "--quiet", "--no-overwrite-ignore", "--no-track", "-B", branch, commit)
    if done.returncode:
        names = [os.fsdecode(line[1:]) for line in done.stderr.splitlines() if line.startswith(b"\t")]
        if not names:
            raise InputError(f"git cannot check out {branch}: {git.reason(done)}")
        told = ", ".join(names[:NAMED_FILES]) + (f" and {len(names) - NAMED_FILES} more" if names[NAMED_FILES:] else "")
        raise InputError(
            f"{branch} has files of its own where these lie, which no commit holds: {told}; move them or commit them, "
            "then retrain"
        )
    return folder


def set_aside(paths: Sequence[Path]) -> Path | None:
    """Move what lies at `paths` to a new folder, under the same names; returns the folder, or None for nothing."""
    here = [path for path in paths if path.exists()]
    if not here:
        return None
    SET_ASIDE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=SET_ASIDE, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    for path in here:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, folder / path)
    return folder


def commit_results(message: str) -> bool:
    """Commit dvc.lock and the small results in data/, and nothing else; says whether there was anything new."""
    options = ("--others", "--exclude-standard", "--modified", "--deleted", "--deduplicate", "-z")
    changed = _names("ls-files", *options, "--", *RESULT_FILES)
    staged = _names("diff", "--cached", "--name-only", "--relative", "-z", "--", *RESULT_FILES)
    paths = list(dict.fromkeys((*changed, *staged)))
    if paths:
        git.output("add", "--all", "--", *paths, environment=LITERAL)
    if not paths or git.run("diff", "--cached", "--quiet", "HEAD", "--", *paths, environment=LITERAL).returncode == 0:
        return False
    git.output("commit", "--quiet", "--message", message, "--", *paths, environment=_identity() | LITERAL)
    return True


def push(remote: str, branch: str) -> bool:
    """Push the branch; says whether the remote took it: it does not where somebody else was faster.

    Raises:
        InputError: it fails for any other reason.
    """
    tracking, tries = f"refs/remotes/{remote}/{branch}", 0
    while git.commit_of(tracking) != head():
        tries += 1
        done = git.run("push", "--porcelain", remote, f"refs/heads/{branch}:refs/heads/{branch}")
        if done.returncode == 0:
            return True
        # The flag of a branch that was refused: it has moved meanwhile, or is just being moved, or a rule forbids it.
        refused = any(line.startswith(b"!\t") for line in done.stdout.splitlines())
        if refused:
            fetch(remote, branch)
            there = git.commit_of(tracking)
            if there and not _is_ancestor(there, head()):
                return False
        if not refused or tries == PUSHES:
            raise InputError(f"git cannot push {branch} to {remote}: {git.reason(done)}")
        time.sleep(PAUSE_SECONDS)
    return True


def short(commit: str) -> str:
    """A commit as a person reads it."""
    return commit[:8]


def _merge_one(other: str, branch: str) -> None:
    # Results are whole or wrong: half of one dvc.lock and half of another is neither.
    attributes = WORKTREE.with_suffix(".attributes")
    here = git.project_prefix()
    patterns = [here + pattern.replace("/*/", "/**/") for pattern in RESULT_FILES]
    attributes.write_text("".join(f'"{pattern}" -merge\n' for pattern in patterns), encoding="utf-8")
    inside = ("-C", str(WORKTREE))
    settings = ("-c", f"core.attributesFile={attributes.resolve()}")
    # Merged again after a kill, the same commits give the same commit: runs in MLflow may name it already.
    when = git.output("show", "-s", "--format=%cI", other)
    signed = _identity() | {f"GIT_{who}_DATE": when for who in ("AUTHOR", "COMMITTER")}
    message = f"Merge {short(other)} into {branch}"
    done = git.run(*inside, *settings, "merge", "--quiet", "-m", message, other, environment=signed)
    attributes.unlink()
    if done.returncode == 0:
        return
    conflicts = _names(*inside, "diff", "--name-only", "--diff-filter=U", "-z")
    results = [path for path in conflicts if path.startswith(here)]
    results = [path for path in results if any(fnmatch(path.removeprefix(here), name) for name in RESULT_FILES)]
    inputs = [path for path in conflicts if path not in results]
    if inputs or not conflicts:
        what = f"both changed {', '.join(inputs)}" if inputs else git.reason(done)
        raise InputError(
            f"{short(other)} cannot be merged into {branch}: {what}; merge them by hand (`git switch {branch}`, "
            f"`git merge {short(other)}`), push {branch}, then retrain"
        )
    for path in conflicts:
        if git.run(*inside, "checkout", "--ours", "--", path).returncode:  # the branch has removed it
            git.output(*inside, "rm", "--quiet", "--", path)
        else:
            git.output(*inside, "add", "--", path)
    git.output(*inside, "commit", "--quiet", "-m", message, environment=signed)


def _names(*command: str) -> list[str]:
    """What a git command with `-z` lists."""
    return git.output(*command).split("\0")[:-1]


def _is_ancestor(commit: str, of: str) -> bool:
    return git.run("merge-base", "--is-ancestor", commit, of).returncode == 0


def _identity() -> dict[str, str]:
    """Who commits, where nobody has told git: CI machines are nobody."""
    unknown = {part: value for part, value in IDENTITY.items() if git.run("config", f"user.{part.lower()}").returncode}
    names = {f"GIT_{who}_{part}": value for part, value in unknown.items() for who in ("AUTHOR", "COMMITTER")}
    return {name: value for name, value in names.items() if name not in os.environ}
