import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.runtime import processors, settings
from pipeline.runtime.processors import assigned_processors, available_processors
from tests.conftest import PROJECT


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make believe that there are 16 processors, in a control group of these files."""
    monkeypatch.setattr(processors, "GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))

    def make(groups: str, files: Mapping[str, str]) -> None:
        (tmp_path / "cgroup").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "mounts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


V1 = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n0::/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "number"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),  # more than there are
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # a part counts as one
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "\n"}, 16),
        ("0::/a/b/c\n", {"a/b/c/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 50000\n", "a/cpu.max": "500000 100000\n"}, 4),
        ("0::/a\n", {"b/cpu.max": "100000 100000\n", "a/cpu.max": "max 100000"}, 16),  # of another group
        # A container sees its own group at the root, yet may be told its path outside.
        ("0::/docker/abc\n", {"cpu.max": "500000 100000\n"}, 5),
        ("0::/../abc\n", {"cpu.max": "500000 100000\n"}, 5),
        (V1, v1("cpu,cpuacct/docker/abc", 400_000), 4),
        (V1, v1("cpu,cpuacct/docker/abc", -1), 16),
        (V1, v1("cpu,cpuacct/docker/abc", -1) | v1("cpu,cpuacct/docker", 150_000, 50_000), 3),
        (V1, v1("cpu,cpuacct", 700_000), 7),
        (V1, v1("cpu/docker/abc", 400_000), 4),
        (V1, v1("cpu/docker/abc", 400_000, 0), 16),
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "100000\n"}, 16),
        ("1:cpuset:/\n", v1("cpuset", 100_000), 16),
        ("0::/gr\udcfcn\n".encode(errors="surrogateescape").decode("latin-1"), {"cpu.max": "100000 100000\n"}, 1),
    ],
)
def test_quotas_of_containers_count(groups: str, files: Mapping[str, str], number: int, machine) -> None:
    machine(groups, files)
    assert available_processors() == number
    assert assigned_processors() == 16


def test_a_system_without_control_groups_has_no_quotas(machine) -> None:
    assert available_processors() == 16


def test_processors_that_the_system_does_not_assign_are_not_available() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert assigned_processors() == len(allowed)


def test_a_system_that_does_not_say_which_it_assigns_counts_all(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 5)

    def forbidden(_: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", forbidden)
    assert available_processors() == 5
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_processors() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


QUOTA = """
from pathlib import Path
from pipeline.runtime import processors
processors.GROUP, processors.MOUNTS = Path("cgroup"), Path.cwd()
processors.os.sched_getaffinity = lambda _: set(range(16))
"""


@pytest.mark.parametrize(
    ("quota", "environment", "threads"),
    [("100000 100000", {}, 1), ("100000 100000", {"OMP_NUM_THREADS": "2"}, 2), ("max 100000", {}, None)],
)
def test_every_stage_starts_as_many_threads_as_the_quota_allows(
    quota: str, environment: dict[str, str], threads: int | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(quota)
    code = "import stages, os; print(os.environ.get('OMP_NUM_THREADS'))\n"
    code += "import torch, pyarrow; print(torch.get_num_threads(), pyarrow.cpu_count())"
    done = subprocess.run(
        [sys.executable, "-c", QUOTA + code],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    variable, *found = done.stdout.split()
    assert variable == str(threads)
    if threads:
        assert found == [str(threads), str(threads)]


def test_commands_do_so_too(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import cli

    machine("0::/\n", {"cpu.max": "300000 100000\n"})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = []
    monkeypatch.setattr(cli, "run", lambda _: seen.append(os.environ.get("OMP_NUM_THREADS")))
    cli.main()
    os.environ.pop("OMP_NUM_THREADS")
    assert seen == ["3"]
    monkeypatch.setattr(settings, "available_processors", lambda: 16)
    cli.main()
    assert seen == ["3", None]
