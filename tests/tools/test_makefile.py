"""What `make` says before it fetches anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Not as a part of the `make` that runs the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_another_python_is_noticed_first(folder: Path) -> None:
    other = folder / "python"
    other.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 14, 0)\n'\"$2\"\n")
    other.chmod(0o755)
    for python in (str(other), "no-such-python"):
        done = make(folder, "setup", f"PYTHON={python}")
        assert done.returncode == 2
        assert f"error: {python} is not Python 3.11, 3.12 or 3.13" in done.stderr
        assert not (folder / ".venv").exists()


# Stands in for Python, for the one that it puts into .venv, and for pip there.
PIP_THAT_REFUSES = """#!/bin/sh
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *" download "*) mkdir .venv/torch ;;
    *requirements/packages.txt*) echo "Collecting numpy"; echo "ERROR: no such hash\nExpected abc" >&2; exit 1 ;;
    *" install "*) for n in $(seq 60); do echo "Collecting p$n==1 (from -r x)\n  Downloading p$n"; done
        echo "Installing collected packages: many"; echo "Successfully installed many" ;;
esac
"""


def test_set_up_is_short_where_all_goes_well_and_shows_all_of_an_error(folder: Path) -> None:
    (folder / "requirements").mkdir()
    (folder / "requirements" / "torch.txt").write_text("torch==2.13.0 \\\n")
    (folder / "python").write_text(PIP_THAT_REFUSES)
    (folder / "python").chmod(0o755)
    done = make(folder, "setup", f"PYTHON={folder / 'python'}")
    assert done.returncode == 2
    told = done.stdout.split("requirements/build.txt\n")[1].splitlines()
    assert told[:3] == ["  25 packages found", "  50 packages found", "  installing 60 packages"]
    assert len(told) < 15
    assert "ERROR: no such hash\nExpected abc\nerror: pip refused; if you changed constraints.txt" in done.stderr
    assert not (folder / ".venv" / "ready").exists()


def test_set_up_shows_each_package_and_repro_ends_with_what_to_look_at(folder: Path) -> None:
    told = make(folder, "--dry-run", "repro").stdout
    installs = [line for line in told.splitlines() if " install --no-deps" in line]
    assert len(installs) >= 4
    assert not [line for line in installs if "--quiet" in line]
    report, after = told.splitlines()[-2:]
    assert "data/report/report.md" in report
    assert "Next: rnnlm generate" in after


def test_the_first_target_explains_all_others(folder: Path) -> None:
    text = (folder / "Makefile").read_text()
    (targets,) = [line for line in text.splitlines() if line.startswith(".PHONY:")]
    told = make(folder).stdout
    parts = {"check", "style", "types"}  # of `test`
    assert {line.split()[1] for line in told.splitlines()} == set(targets.split()[1:]) - parts - {"help"}


@pytest.mark.parametrize("failing", ["ruff", "pyrefly", "python", "nothing"])
def test_the_tests_pass_only_where_style_types_and_tests_do(folder: Path, failing: str) -> None:
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("ruff", "pyrefly", "python"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} says this\nexit {int(name == failing)}\n")
        (programs / name).chmod(0o755)
    (folder / ".venv" / "ready").touch()
    done = make(folder, "test")
    assert done.returncode == (0 if failing == "nothing" else 2), done.stderr
    # Whatever it is that fails, it is shown, and nothing runs after it.
    assert failing == "nothing" or f"{failing} says this" in done.stdout
    assert ("python says this" in done.stdout) == (failing in ("python", "nothing"))
