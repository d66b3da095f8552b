"""Git, as a command: the commit that is checked out, what was changed since, a commit laid out beside it.

GitPython, which DVC brings along, would make none of this shorter: it runs the same commands, and its errors hold the
whole command line and all that git printed, where people here get one line.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import dropwhile
from pathlib import Path, PurePath

import psutil

from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import DATA, LOCK, WARM_START_REQUEST
from pipeline.runtime.patience import TRANSFER, transfer_seconds
from pipeline.runtime.stopping import GROUP_SECONDS, LOOKED_SECONDS, raise_if_stopped, run_child
from pipeline.runtime.urls import without_secrets

# What the pipeline and retraining write says nothing about what a person put in. (What warm_start.json names is among
# the hashed inputs of a training run, as data/warm_start.)
RESULTS = (LOCK, WARM_START_REQUEST, DATA)
INPUTS = (".", *(f":(exclude){path}" for path in RESULTS))
RECIPE_RUNS = Path(".rnnlm/recipes")  # worktrees that stay
# Nobody waits to answer a question about a commit or a password, and DVC's hooks would check out data unasked.
QUIET = ("git", "-c", "core.hooksPath=/dev/null")
NO_QUESTIONS = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
LARGEST_PATCH = 5_000_000  # bytes of all changed files together; a patch is the wrong place for a corpus
# Names of files and folders that are never copied, unless they are code; inside others detect-secrets looks.
SECRETS = (
    *(".env*", "*.env", ".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd"),
    *(".git-credentials", ".dockercfg", ".ssh", ".aws", ".azure", ".kube", ".gnupg", "kubeconfig*", "*.kubeconfig"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.ovpn", "*.tfstate*", "*.tfvars"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*credential*", "*secret*", "*password*", "*service-account*"),
    *(".docker", ".m2", ".password-store", ".mylogin.cnf", ".s3cfg", ".boto", "rclone.conf", ".renviron", ".authinfo*"),
    *("*.pgpass", "*.der", "*.p8", "*.gpg", "*.keychain*", "*vault?pass*", ".vault-token", "cookies*", ".*_history"),
    *("token", "token.txt", "*.token", "*[-_]token", "*[-_]token.txt", "*api[-_]key*", "apikey*"),
)
UNASSIGNING = (".py", ".txt", ".md", ".csv", ".jsonl")
# What detect-secrets has no rule for: keys of Hugging Face and age, a variable with a token, a password in XML.
ALSO_SECRET = re.compile(
    r"""\bhf_[A-Za-z0-9]{30,} | AGE-SECRET-KEY-1[0-9A-Z]{20,} | <(?i:password|passwd|secret|token)>[^<$]{4,}<
    | \b[A-Z][A-Z0-9_]*TOKEN[ \t]*[:=][ \t]*["']?(?=[\w-]*\d)[\w-]{16,}""",
    re.VERBOSE,
)

ALLOWED = "pragma: allowlist secret"  # of detect-secrets, in a line that it lets through
REMOTE = ("fetch", "ls-remote", "push")  # commands that talk to a server, which may fall silent
LEFT_SECONDS = 2 * GROUP_SECONDS  # for what a killed process has started to end
Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Changes:
    """What differs from the git commit in the folder: its inputs only, not what the pipeline writes.

    Attributes:
        patch: what `git apply` makes of the commit what lies here; new files that git does not ignore included.
        left_out: changed files that the patch lacks: those too large for it, with their MD5, and those that look like a
            secret, by their name or by what of them was changed, with None.
        incomplete: why git could not tell all of it, in its own words; empty where it could.
    """

    patch: bytes = b""
    left_out: dict[str, str | None] = field(default_factory=dict)
    incomplete: str = ""


def run(*arguments: str, given: bytes | None = None, environment: dict[str, str] | None = None) -> Done:
    """Run git, whatever comes of it; its status is 127 without git on the machine, 124 if its server was too slow.

    Args:
        arguments: the command, such as `status`, and its own.
        given: standard input.
        environment: variables beside those of this process.

    Raises:
        StoppedError: a signal came while a server was talked to.
    """
    command, variables = [*QUIET, *arguments], os.environ | NO_QUESTIONS | (environment or {})
    try:
        if arguments[0] in REMOTE:
            return run_child(command, given, transfer_seconds(), env=variables)
        return subprocess.run(command, input=given, capture_output=True, check=False, env=variables)
    except subprocess.TimeoutExpired as error:
        told = f"no end after {error.timeout:g} seconds; is the server up? {TRANSFER} sets the limit"
        return Done(command, 124, b"", told.encode())
    except OSError as error:
        return Done(command, 127, b"", f"git cannot be run ({error.strerror}); install it".encode())


def output(*arguments: str, given: bytes | None = None, environment: dict[str, str] | None = None) -> str:
    """What git prints, without the end of its last line; file names that are not UTF-8 survive.

    Raises:
        InputError: git fails.
    """
    done = run(*arguments, given=given, environment=environment)
    if done.returncode:
        verb = next(word for word in arguments if word[0] not in "-./" and "=" not in word)
        raise InputError(f"git {verb} failed: {reason(done)}")
    return os.fsdecode(done.stdout).removesuffix("\n")


def reason(done: Done) -> str:
    """Why git failed, in its own words on one line: from its first `fatal:` or `error:`, where there is one."""
    # `push --porcelain` says on standard output which branch was refused.
    text = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "!"))] or lines
    return without_secrets("; ".join(told[:2]) or f"status {done.returncode}")


def commit_of(ref: str) -> str | None:
    """The commit that a branch, or `HEAD`, is at; None where there is none, no repository or no git."""
    done = run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    return done.stdout.decode().strip() if done.returncode == 0 else None


def project_prefix() -> str:
    """The folder here within the repository, such as `ml/words/`; empty at its top.

    Raises:
        InputError: this is not a repository.
    """
    return output("rev-parse", "--show-prefix")


def left_branch() -> str | None:
    """The branch that `dvc exp run` has left: it works on none, and goes back only if nobody kills it.

    None where a branch is checked out, or where it was not DVC that left one.
    """
    if run("symbolic-ref", "--quiet", "HEAD").returncode != 1 or commit_of("refs/exps/exec/EXEC_HEAD") is None:
        return None
    done = run("rev-parse", "--abbrev-ref", "@{-1}")  # what HEAD was at before
    name = os.fsdecode(done.stdout).strip()
    return name if done.returncode == 0 and commit_of(f"refs/heads/{name}") else None


def unreadable() -> str:
    """Why git cannot read the repository here, in its own words; empty where it can, and where there is none."""
    done = run("rev-parse", "--git-dir")
    here = Path.cwd()
    return (
        reason(done) if done.returncode and any((folder / ".git").exists() for folder in (here, *here.parents)) else ""
    )


def changed_inputs(new: bool = True) -> list[str]:
    """Names of the inputs that were changed since the commit; those that git does not track only if `new`.

    Raises:
        InputError: this is not a repository.
    """
    status = output("status", "--porcelain", f"-u{'normal' if new else 'no'}", "--", *INPUTS)
    return [line[3:].removeprefix(project_prefix()) for line in status.splitlines()]


def all_versions(*patterns: str) -> bytes:
    """All that files of these names, in any folder, hold in any commit that git still has, or staged, in one piece.

    Commits of all branches, remotes, tags, stashes, experiments and worktrees, and those that only a reflog names.

    Raises:
        InputError: this is not a repository, or a part of it is missing.
    """
    paths = [f":(top,glob)**/{pattern}" for pattern in patterns]
    options = ("--all", "--reflog", "-m", "--format=", "--raw", "--no-abbrev", "--no-renames")
    blobs = {line.split()[3] for line in output("log", *options, "--", *paths).splitlines()}
    blobs |= {line.split()[1] for line in output("ls-files", "--stage", "--", *paths).splitlines()}
    wanted = "".join(f"{blob}\n" for blob in blobs if blob.strip("0"))  # all zeros: a commit has removed the file
    done = run("cat-file", "--batch", given=wanted.encode())
    if done.returncode:
        raise InputError(f"git cat-file failed: {reason(done)}")
    return done.stdout


def changes() -> Changes:
    """What was changed since the commit; nothing outside of a repository, or before its first commit."""
    if commit_of("HEAD") is None:
        return Changes(incomplete=unreadable())
    left_out: dict[str, str | None] = {}
    room = LARGEST_PATCH
    new = output("ls-files", "--others", "--exclude-standard", "-z", "--", *INPUTS).split("\0")[:-1]
    options = ("--name-only", "--no-renames", "--ignore-submodules=none", "-z", "--relative")
    changed = output("diff", *options, "HEAD", "--", *INPUTS).split("\0")[:-1]
    others = [name for name in sorted({*new, *changed}) if Path(name).is_dir() and not Path(name).is_symlink()]
    for name in sorted({*new, *changed}, key=lambda name: (_size(Path(name)), name)):
        size = _size(Path(name))
        if _is_named_like_a_secret(name):
            left_out[name] = None  # the hash of a short secret gives it away
        elif size > room:
            left_out[name] = _md5(Path(name))
        else:
            room -= size
    with tempfile.TemporaryDirectory() as folder:
        # An index and a store of objects of its own: the user's must not show that somebody looked.
        private = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": output("rev-parse", "--path-format=absolute", "--git-path", "objects"),
        }
        added = b"\0".join(os.fsencode(name) for name in (*INPUTS, *(f":(exclude,literal){name}" for name in left_out)))
        # A file that cannot be read costs only itself. The names may be too many for a command line.
        options = ("--all", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul")
        steps = [
            run("read-tree", "HEAD", environment=private),
            run("add", *options, given=added, environment=private),
        ]
        # Not `diff`, to which a person's own settings apply: text that only a person can read, names without a/ and b/.
        difference = ("diff-index", "--cached", "--no-renames", "--no-ext-diff", "--no-color", "--relative", "HEAD")
        steps.append(run(*difference, "--patch", "--binary", environment=private))
        told = [reason(done) for done in steps if done.returncode]
        told += [f"{name} is another repository, whose files no patch of this one has" for name in others]
        incomplete = "; ".join(told)
        if steps[0].returncode or steps[-1].returncode:
            return Changes(b"", left_out, incomplete)
        words = iter(output(*difference, "--name-status", "-z", environment=private).split("\0")[:-1])
        parts = iter(re.split(rb"^(?=diff --git )", steps[-1].stdout, flags=re.MULTILINE)[1:])
        kept, room = [], LARGEST_PATCH
        with _detector() as holds_a_secret:
            for status, name in zip(words, words, strict=True):
                # Where a file became a link, it goes and the link comes.
                part = b"".join(next(parts) for _ in range(2 if status == "T" else 1))
                if _is_named_like_a_secret(name) or holds_a_secret(name, part):
                    left_out[name] = None
                elif len(part) > room:  # what was deleted counts, too
                    left_out[name] = _md5(Path(name)) if Path(name).is_file() else None
                else:
                    kept.append(part)
                    room -= len(part)
    return Changes(b"".join(kept), left_out, incomplete)


def _md5(path: Path) -> str:
    """As DVC's hash of a file, which takes no name that is not UTF-8."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _size(path: Path) -> int:
    return path.lstat().st_size if path.is_file() or path.is_symlink() else 0


def _is_named_like_a_secret(name: str) -> bool:
    path = PurePath(name.lower())
    return path.suffix != ".py" and any(fnmatch(part, pattern) for part in path.parts for pattern in SECRETS)


@contextmanager
def _detector() -> Iterator[Callable[[str, bytes], bool]]:
    """Says whether there is a secret in a file's part of a patch: in what came, what went or what stands around."""
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    def holds_a_secret(name: str, part: bytes) -> bool:
        lines = part.splitlines()
        if b"GIT binary patch" in lines:
            # Text in another encoding, perhaps.
            content = Path(name).read_bytes().replace(b"\0", b"") if Path(name).is_file() else b""
        else:
            body = dropwhile(lambda line: not line.startswith(b"@@ "), lines)
            content = b"\n".join(line[1:] for line in body if not line.startswith(b"@@ ")) + b"\n"
        text = content.decode("latin-1").encode("ascii", "replace")
        if any(ALSO_SECRET.search(line) for line in text.decode().splitlines() if ALLOWED not in line):
            return True
        # By the suffix a file is taken for YAML, say; what is neither code nor prose may also assign without quotes.
        endings = [""] if PurePath(name).suffix in UNASSIGNING else ["", ".cfg"]
        copies = [Path(folder) / f"{PurePath(name).name}{ending}" for ending in endings]
        try:
            for copy in copies:
                copy.write_bytes(text)
            return any(True for copy in copies for _ in scan_file(str(copy)))
        finally:
            for copy in copies:
                copy.unlink(missing_ok=True)

    with tempfile.TemporaryDirectory() as folder, default_settings():
        yield holds_a_secret


@contextmanager
def worktree(folder: Path, commit: str) -> Iterator[Path]:
    """A commit laid out in `folder`, until the block ends; what a killed process left there goes first.

    Yields the project in it: `folder` itself, or one below it, if the project here is a part of its repository.

    Raises:
        InputError: git cannot lay it out, or a process still works in what was left.
        StoppedError: a signal came while that was waited for.
    """
    end = time.monotonic() + LEFT_SECONDS
    while found := worker_in(folder):
        if time.monotonic() > end:
            raise InputError(f"process {found.pid} works in {folder}, which has to go; end it, then run again")
        time.sleep(LOOKED_SECONDS)
        raise_if_stopped("run the command again")
    remove_worktree(folder)
    try:
        output("worktree", "add", "--quiet", "--detach", str(folder), commit)
        yield folder / project_prefix()
    finally:
        remove_worktree(folder)


def kept_worktree(folder: Path) -> Path:
    """The last commit laid out in `folder`, where it stays for who goes on there after a kill; returns its project.

    Of what lies there already, files that git tracks become those of the commit, if it is another; others stay.

    Raises:
        InputError: git cannot lay it out, or this is not a repository.
    """
    commit = output("rev-parse", "HEAD")
    # Below a folder that is no worktree, git would take the repository around it, and overwrite what is there.
    there = run("-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD") if (folder / ".git").is_file() else None
    if there and there.returncode == 0:
        if there.stdout.decode().strip() != commit:
            output("-C", str(folder), "checkout", "--quiet", "--force", "--detach", commit)
    else:
        remove_worktree(folder)
        output("worktree", "add", "--quiet", "--detach", str(folder), commit)
    return folder / project_prefix()


def apply_changes(project: Path, patch: bytes) -> None:
    """Apply the patch of `Changes` to the project in a worktree.

    Raises:
        InputError: it does not fit.
    """
    # Names in a patch start at the top of a repository, those of ours at the project.
    output("-C", str(project), "apply", f"--directory={project_prefix()}", "--whitespace=nowarn", "-", given=patch)


def worker_in(folder: Path) -> psutil.Process | None:
    """A process whose working directory is in `folder`: what a killed one has started takes a moment to end."""
    if folder.exists():
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):  # it is another user's, or went meanwhile
                if Path(process.cwd()).is_relative_to(folder.resolve()):
                    return process
    return None


def remove_worktree(folder: Path) -> None:
    """Remove what `worktree` laid out, also where its process was killed."""
    run("worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    run("worktree", "prune")
