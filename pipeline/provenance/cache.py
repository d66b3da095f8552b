"""What DVC's cache has and nothing uses: found, and removed."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.provenance import git
from pipeline.provenance.dvc import repository
from pipeline.runtime.paths import LOCK

if TYPE_CHECKING:
    from dvc.repo import Repo


def unused_objects(kept: Collection[str], before: float) -> list[Path]:
    """Files of DVC's cache that neither the workspace nor any commit names (`git.all_versions` says of which ones).

    DVC itself takes minutes for hundreds of commits, with its lock held, for which a stage that ends then waits three
    seconds; and it passes over stashes. A cache outside the checkout may be shared with other projects, so nothing in
    it counts as unused.

    Args:
        kept: hashes of files and folders that are used all the same.
        before: seconds since 1970; what came into the cache after that counts as used.

    Raises:
        InputError: the workspace has no dvc.yaml that DVC can read, say.
    """
    with repository() as repo, repo.lock:
        cache = repo.cache.local
        if not Path(cache.path).resolve().is_relative_to(Path(repo.root_dir).resolve()):
            return []
        names = _used(repo, kept)
        found = [Path(cache.oid_to_path(name)) for name in cache.all() if name not in names]
        return [path for path in found if path.stat().st_mtime < before]


def free_objects(paths: Collection[Path], kept: Collection[str]) -> None:
    """Remove files that `unused_objects` has found, but for those that workspace, commits or `kept` name by now.

    Raises:
        InputError: another process of DVC has its lock.
    """
    with repository() as repo, repo.lock:
        used = {Path(repo.cache.local.oid_to_path(name)) for name in _used(repo, kept)}
        for path in paths:
            if path not in used:
                path.unlink(missing_ok=True)


def _used(repo: "Repo", kept: Collection[str]) -> set[str]:
    """Hashes that workspace and commits name, and `kept` ones, with those of the files in their folders."""
    from dvc.scm import NoSCM
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    names = {info.value for infos in repo.used_objs(force=True).values() for info in infos if info.value} | set(kept)
    if not isinstance(repo.scm, NoSCM):
        text = git.all_versions(LOCK.name, "*.dvc").decode(errors="replace")
        names |= set(re.findall(r"\b[0-9a-f]{32}\b(?:\.dir)?", text))
    for digest in [name for name in names if name.endswith(".dir") and cache.exists(name)]:
        names |= {info.value for _, _, info in Tree.load(cache, HashInfo("md5", digest)) if info and info.value}
    return names
