"""Pinned versions against installed ones."""

from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.pins import canonical, check_installed, read_constraints, write_pins
from tests.conftest import PROJECT


def test_constraints_are_read_by_canonical_name(tmp_path: Path) -> None:
    path = tmp_path / "constraints.txt"
    path.write_text("# comment\nSQLAlchemy==2.0\nflufl.lock == 9.2 ; python_version > '3'\n-e .\n")
    assert read_constraints(path) == {"sqlalchemy": "2.0", "flufl-lock": "9.2"}


def test_every_direct_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pinned = read_constraints(PROJECT / "constraints.txt")
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {canonical(name.partition("[")[0]) for name in needed} <= set(pinned)
    assert pinned["torch"] == "2.13.0"


def test_an_unpinned_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nosuch has no pinned version"):
        write_pins({"torch": "1"}, ["nosuch"], tmp_path / "pins.txt")
    assert not list(tmp_path.iterdir())


def test_the_installed_version_must_be_the_pinned_one(tmp_path: Path) -> None:
    path = tmp_path / "pins.txt"
    path.write_text(f"nltk=={version('nltk')}\ntorch=={version('torch').partition('+')[0]}\n")
    check_installed(path)
    path.write_text("nltk==0.0.1\n")
    with pytest.raises(InputError, match=r"nltk .* is installed, but .* pins 0\.0\.1"):
        check_installed(path)
    path.write_text("no-such-package==1\n")
    with pytest.raises(InputError, match="no-such-package is not installed"):
        check_installed(path)
