"""Which of many sentences are the first of their kind, exactly and in bounded memory.

Each sentence is known by a digest and its place. The digests go to files on disk by their first byte, so equal ones
meet in one file; these are looked at one by one. Memory holds one of the files, a 128th of 24 bytes a sentence.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

PARTS = 128
WRITTEN_BYTES = 1 << 20  # bytes at a time
RECORD = np.dtype([("digest", np.uint8, 16), ("place", np.int64)])


class Deduplication(ExitStack):
    """First `add` all sentences in their order, then `decide`, then ask for what is `kept` in the same order.

    Makes `folder` for its files, which the stack holds open until `decide`; whoever makes the folder above removes it.
    `sentences` is how many will be added.
    """

    def __init__(self, folder: Path, sentences: int) -> None:
        super().__init__()
        folder.mkdir()
        self._paths = [folder / f"{part:02x}" for part in range(PARTS)]
        try:
            self._files = [self.enter_context(path.open("wb")) for path in self._paths]
        except OSError:
            self.close()  # with all of them open, nobody could even remove the folder
            raise
        # A byte a sentence, on disk too. Written before it is mapped: a map that outgrows the disk ends in a bus error.
        with (folder / "kept").open("wb") as file:
            for start in range(0, sentences, WRITTEN_BYTES):
                file.write(b"\1" * min(WRITTEN_BYTES, sentences - start))
        self._kept = np.memmap(folder / "kept", bool, "r+") if sentences else np.empty(0, bool)
        self._added = self._asked = 0

    def add(self, digests: pa.FixedSizeBinaryArray) -> None:
        """Add sentences: 16 bytes each, or null for one that is kept whatever else there is."""
        places = np.arange(self._added, self._added + len(digests))
        self._added += len(digests)
        has_digest = np.asarray(digests.is_valid())
        digests = digests.drop_null()
        records = np.empty(len(digests), RECORD)
        buffer = digests.buffers()[1]
        if buffer is not None:
            records["digest"] = np.frombuffer(buffer, np.uint8, 16 * len(digests), 16 * digests.offset).reshape(-1, 16)
        records["place"] = places[has_digest]
        part_of = records["digest"][:, 0] % PARTS
        order = np.argsort(part_of, kind="stable")
        ends = np.searchsorted(part_of[order], np.arange(PARTS), side="right")
        for file, part in zip(self._files, np.split(records[order], ends[:-1]), strict=True):
            file.write(part.tobytes())

    def decide(self) -> None:
        """Find, for each digest, the first sentence that has it."""
        self.close()
        for path in self._paths:
            records = np.fromfile(path, RECORD)
            halves = np.ascontiguousarray(records["digest"]).view(np.uint64)
            order = np.lexsort((records["place"], halves[:, 1], halves[:, 0]))
            same = (halves[order][1:] == halves[order][:-1]).all(1)
            self._kept[records["place"][order[1:][same]]] = False

    def kept(self, sentences: int) -> pa.BooleanArray:
        """Whether each of the next `sentences` is the first of its kind."""
        self._asked += sentences
        return pa.array(np.asarray(self._kept[self._asked - sentences : self._asked]))
