"""What a machine may lack (space, open files, the right to write): one clear line, nothing half-written, a rerun."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SOAK
from tests.system.conftest import Clone

# Each stage with an output that is far larger than the limit.
STAGES = ["download", "tokenize", "vocabulary", "encode", "train lstm", "evaluate lstm", "baselines", "report"]
if not SOAK:
    STAGES = STAGES[1:5:3]  # one that works with Arrow, one with torch
LIMIT = 400  # bytes of a file


@pytest.fixture(scope="module")
def clone(plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return plain.copy(tmp_path_factory.mktemp("clone"))


def limited(clone: Clone, stage: str, limit: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    module, *arguments = stage.split()
    return subprocess.run(
        # Without bytecode: Python 3.11 leaves half a file of it where the size of files is limited.
        [sys.executable, "-B", "-m", f"stages.{module}", *arguments],
        cwd=clone.folder,
        env=clone.environment,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )


def check_refusal(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = re.findall(r"^error: .*$", done.stderr, re.MULTILINE)
    assert expected in line


def check_rerun(clone: Clone, stage: str, before: dict[str, str]) -> None:
    assert clone.digests() == before
    assert [path for path in (clone.folder / "data").rglob(".*") if path.name != ".gitignore"] == []
    clone.stage(*stage.split())
    assert clone.digests() == before


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_space_for_a_file(stage: str, clone: Clone) -> None:
    """A limit on the size of files fails in the same calls as a full disk, and needs no disk of its own."""
    before = clone.digests()
    done = limited(clone, stage, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)))
    check_refusal(done, "File too large")
    check_rerun(clone, stage, before)


@pytest.mark.slow
@pytest.mark.parametrize("files", [16])
def test_too_few_open_files(files: int, clone: Clone) -> None:
    before = clone.digests()
    done = limited(clone, "tokenize", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    check_refusal(done, "Too many open files")
    check_rerun(clone, "tokenize", before)


@pytest.mark.slow
def test_a_failed_allocation(clone: Clone) -> None:
    """A network of a thousand million weights, and no room for them."""
    path, before = clone.folder / "params.yaml", clone.digests()
    original = path.read_text()
    clone.change(model__hidden_size=16_000)
    try:
        size = 4 * 2**30
        done = limited(clone, "train lstm", lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
    finally:
        path.write_text(original)
    check_refusal(done, "out of memory")
    check_rerun(clone, "train lstm", before)


@pytest.mark.soak
@pytest.mark.parametrize("options", ["ro", "size=64k"])
def test_training_and_evaluating_need_no_shared_memory(clone: Clone, options: str) -> None:
    """Text stages do without, too: tests/runtime/test_parallel.py."""
    here = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", here], capture_output=True).returncode:
        pytest.skip("only root can mount a /dev/shm of its own")
    before = clone.digests()
    (clone.folder / "data/models/lstm/model.safetensors").unlink()
    stages = "$0 -m stages.train lstm && $0 -m stages.evaluate lstm && $0 -m stages.baselines"
    clone.run("unshare", "-m", "sh", "-c", f"{here} && {stages}", sys.executable)
    assert clone.digests() == before


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Calls `mount` and, in the end, `umount`."""
    mounted: list[str] = []

    def call(*arguments: str) -> None:
        if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        if not arguments[1].startswith("remount"):
            mounted.append(arguments[-1])

    yield call
    for folder in reversed(mounted):
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def tiny_disk(clone: Clone, mount: Callable[..., None]) -> Path:
    """data/models/lstm on a file system with room for nothing."""
    folder = clone.folder / "data/models/lstm"
    mount("-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder))
    return folder


@pytest.mark.soak
def test_a_read_only_file_system(clone: Clone, mount: Callable[..., None]) -> None:
    folder, before = str(clone.folder / "data"), clone.digests()
    mount("--bind", folder, folder)
    mount("-o", "remount,ro,bind", folder)
    for stage in ("tokenize", "train lstm"):
        check_refusal(limited(clone, stage, lambda: None), "Read-only file system")
    assert clone.digests() == before


@pytest.mark.slow
def test_a_full_disk(clone: Clone, tiny_disk: Path) -> None:
    done = limited(clone, "train lstm", lambda: None)
    check_refusal(done, "No space left on device")
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written(clone: Clone) -> None:
    folder, before = clone.folder / "data/tokens", clone.digests()
    folder.chmod(0o555)
    try:
        check_refusal(limited(clone, "tokenize", lambda: None), "Permission denied")
    finally:
        folder.chmod(0o755)
    check_rerun(clone, "tokenize", before)
