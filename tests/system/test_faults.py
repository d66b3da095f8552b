"""Faults of one line (faults.toml), each of which a test must catch: `make soak` makes them one by one in a copy."""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.system.conftest import Clone

# The rooms of pipeline/, its modules without a room, and the stages: each has a fault at least.
ROOMS = {path.parent.name for path in (PROJECT / "pipeline").glob("*/__init__.py")}
ROOMS |= {"sources", "params.py", "cli.py", "stages"}


@dataclass(frozen=True)
class Fault:
    """`before` stands once in `file`; with `after` in its place, `test` fails."""

    file: str
    before: str
    after: str
    test: str

    @property
    def name(self) -> str:
        return f"{self.file}: {self.after}"


FAULTS = [Fault(**entry) for entry in tomllib.loads(Path(__file__).with_name("faults.toml").read_text())["fault"]]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_still_has_its_place_and_its_test(fault: Fault) -> None:
    assert (PROJECT / fault.file).read_text().count(fault.before) == 1
    assert fault.after != fault.before
    assert "\n" not in fault.before + fault.after
    file, _, name = fault.test.partition("::")
    assert re.search(rf"^def {name}\(", (PROJECT / file).read_text(), re.MULTILINE)


def test_there_are_thirty_faults_and_one_in_every_room() -> None:
    assert len({(fault.file, fault.before, fault.after) for fault in FAULTS}) == len(FAULTS) >= 30
    assert {part for fault in FAULTS for part in Path(fault.file).parts} >= ROOMS


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose files may be spoilt."""
    return Clone(tmp_path_factory.mktemp("faults")).folder


def run_tests(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "RNNLM_"))}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", "", *tests]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.soak
def test_without_a_fault_their_tests_pass(scratch: Path) -> None:
    done = run_tests(scratch, *sorted({fault.test for fault in FAULTS}))
    assert done.returncode == 0, done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault: Fault, scratch: Path) -> None:
    path = scratch / fault.file
    right = path.read_text()
    path.write_text(right.replace(fault.before, fault.after))
    try:
        done = run_tests(scratch, fault.test)
        assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    finally:
        path.write_text(right)
