"""Bytes by their hash, out of DVC's cache or its remote."""

import os
import shutil
from pathlib import Path

from pipeline.provenance.inputs import dvc_digest
from pipeline.runtime.errors import InputError


def restore(name: str, digest: str, destination: Path) -> None:
    """Copy a file or folder out of DVC's cache, into which it is first pulled from the remote where it is missing.

    Args:
        name: of the output, for messages.
        digest: as dvc.lock has it.
        destination: must not exist yet.

    Raises:
        InputError: nobody has it, or what the cache has under that name are other bytes.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    with Repo(os.curdir) as repo:
        cache = repo.cache.local

        def path_of(digest: str) -> str:
            if not cache.exists(digest):
                try:
                    repo.cloud.pull([HashInfo("md5", digest)])
                except DvcException as error:
                    raise InputError(
                        f"{name} ({digest}) is not in DVC's cache, and cannot be pulled: {error}"
                    ) from None
            if not cache.exists(digest):
                raise InputError(f"{name} ({digest}) is neither in DVC's cache nor in its remote")
            return cache.oid_to_path(digest)

        path_of(digest)
        item = load(cache, HashInfo("md5", digest))
        files = {destination: digest}
        if isinstance(item, Tree):
            files = {destination.joinpath(*key): str(info.value) for key, _, info in item if info}
            destination.mkdir(parents=True)  # it may be empty
        for target, value in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path_of(value), target)
    if dvc_digest(destination) != digest:
        raise InputError(
            f"{name} in DVC's cache is not what its hash {digest} says: somebody changed it, or the disk did; "
            "delete it there and `dvc pull` it again"
        )
