"""Whether results are those of dvc.lock, byte for byte, and what changed since they were made."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.params import at, flat
from pipeline.provenance import git
from pipeline.provenance.dvc import StageRecord, digest_if_there, read_lock
from pipeline.runtime.paths import DATA, LOCK


def outputs_unlike_lock() -> tuple[int, dict[str, str]]:
    """How many outputs dvc.lock has, and what is wrong with those that do not lie here as it says, by their paths.

    Raises:
        InputError: dvc.lock is missing or damaged.
    """
    outs = {path: digest for record in read_lock().values() for path, digest in record.outs.items()}
    now = {path: digest_if_there(Path(path)) for path in outs}
    wrong = {path: "has other bytes" if now[path] else "is missing" for path in outs if now[path] != outs[path]}
    return len(outs), wrong


def changed_since(locked: Mapping[str, StageRecord], params: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each stage of dvc.lock what differs from when it ran: keys of params.yaml, and files; nothing where none do.

    URLs are not asked.
    """
    digest = cache(lambda path: digest_if_there(Path(path)))
    found = {}
    for stage, record in locked.items():
        then, now = flat(record.params), flat({key: at(params, key) for key in record.params})
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        files = {path: known for path, known in (record.deps | record.outs).items() if "://" not in path}
        found[stage] = [*keys, *(path for path, known in files.items() if digest(path) != known)]
    return found


def commit_of_results() -> str:
    """The commit that brought the results that lie here, with its date, in words."""
    if git.commit_of("HEAD") is None:
        return "results of no commit"
    if git.output("status", "--porcelain", "--", str(LOCK), str(DATA)):
        return "results not committed yet"
    return f"results of commit {git.output('log', '-1', '--format=%h of %cs', '--', str(LOCK))}"
