"""A server with a file, and where fetched files go."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.text.sources import fetch
from tests.text.sources.server import Server, serving

CONTENT = random.Random(0).randbytes(3_000_000)
LARGE = 1 << 30


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving() as server:
        server.files["/data/corpus.bin"] = CONTENT
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "downloads"
