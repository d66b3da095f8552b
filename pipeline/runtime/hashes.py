"""Short names for what decides a result."""

import hashlib
import json
from collections.abc import Mapping


def fingerprint(value: Mapping[str, object]) -> str:
    """A short hash of parameters and digests: equal values, equal text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
