"""The processors of this process: how many it may use, within the quota of its container, and what they can do."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

GROUP = Path("/proc/self/cgroup")
MOUNTS = Path("/sys/fs/cgroup")
DESCRIPTION = Path("/proc/cpuinfo")


def available_processors() -> int:
    """Number of processors that this process may use, at least 1; part of one counts as one, as in Dask and joblib.

    A container with a quota sees all processors of its machine, yet gets the time of a few: more processes or threads
    than that cost memory and wait for one another.
    """
    return max(math.ceil(min([assigned_processors(), *_quotas()])), 1)


def assigned_processors() -> int:
    """Number of processors that the system runs this process on, whatever share of their time it gets."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # a system without it, or a sandbox that forbids it
        return os.cpu_count() or 1


def has_avx2() -> bool:
    """Whether they are x86-64 processors with AVX2 and FMA; False where the system does not say."""
    try:
        found = re.search(r"^flags\s*:(.*)$", DESCRIPTION.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return False
    return found is not None and {"avx2", "fma"} <= set(found[1].split())


def _quotas() -> Iterator[float]:
    """Processors whose time each control group around this process (cgroups v1 and v2) may use at most.

    Dask and joblib look at one group, but a group has at most what those around it have.
    """
    try:
        lines = GROUP.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # v2 has one tree, without a name; v1 one for each set of controllers, here `cpu` or `cpu,cpuacct`.
        mount = next(filter(Path.exists, (MOUNTS / controllers, MOUNTS / "cpu")), MOUNTS)
        folder = mount / group.lstrip("/")
        if ".." in folder.parts or not folder.exists():
            folder = mount  # the path is that outside of the container, which has its own group here
        while folder != MOUNTS.parent:
            yield _quota(folder)
            folder = folder.parent


def _quota(folder: Path) -> float:
    """Processors that one group may use; infinite where its files set no limit, or are not there."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # `max` is not a number
        return math.inf
