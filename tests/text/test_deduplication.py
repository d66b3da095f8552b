from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import deduplication
from pipeline.text.deduplication import Deduplication

# Digests that differ in the first byte (which file), in the middle or in the last byte only, and ones that do not.
DIGESTS = [bytes([first]) + bytes(7) + bytes([middle]) + bytes(6) + bytes([last]) for first in (0, 7, 255)
           for middle in (0, 1) for last in (0, 1)]  # fmt: skip


def kept(digests: list[bytes | None], folder: Path, block: int) -> list[bool]:
    array = pa.array(digests, pa.binary(16))
    found: list[bool] = []
    with Deduplication(folder, len(digests)) as duplicates:
        for start in range(0, len(digests), block):
            duplicates.add(array.slice(start, block))
        duplicates.decide()
        for start in range(0, len(digests), block):
            found += duplicates.kept(len(array.slice(start, block))).to_pylist()
    return found


@given(digests=st.lists(st.none() | st.sampled_from(DIGESTS), max_size=60), block=st.integers(1, 9))
def test_the_first_of_each_kind_is_kept(
    digests: list[bytes | None], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = [digest is None or digest not in digests[:place] for place, digest in enumerate(digests)]
    assert kept(digests, tmp_path_factory.mktemp("digests") / "d", block) == expected


def test_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "WRITTEN_BYTES", 1000)
    numbers = np.random.default_rng(1).integers(0, 30_000, 50_000)
    digests = [int(number).to_bytes(16, "little") for number in numbers]
    found = np.array(kept(list(digests), tmp_path / "d", 4096))
    expected = np.zeros(len(numbers), bool)
    expected[np.unique(numbers, return_index=True)[1]] = True
    assert (found == expected).all()
