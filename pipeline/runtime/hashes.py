"""Names for what decides a result."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Mapping[str, object]) -> str:
    """A short hash of parameters and digests: equal values, equal text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def digest(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as `like`: `sha256:...`, or `git:...` of a blob."""
    kind = like.partition(":")[0]
    if kind == "git":
        found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        found = hashlib.sha256()
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, lambda: found).hexdigest()}"
