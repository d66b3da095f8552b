"""Which split a document belongs to: a function of its id and the shares, of nothing else."""

import hashlib
from typing import Literal

from pipeline.text.params import SplitShares

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def split_of(document: str, shares: SplitShares) -> Split:
    """The split of the document with this id.

    The first 8 bytes of the id's SHA-256, read as a fraction of 2^64, fall into [0, train), [train, train + valid) or
    the rest. So a document never moves because others come, go or change; when the shares change, only documents
    between the old boundaries and the new ones move.
    """
    digest = hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64 * (shares.train + shares.valid + shares.test)
    if position < shares.train:
        return "train"
    return "valid" if position < shares.train + shares.valid else "test"
