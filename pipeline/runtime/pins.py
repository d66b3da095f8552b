"""Pinned versions: what constraints.txt says, and whether the machine agrees."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text


def canonical(package: str) -> str:
    """A distribution's name as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def read_constraints(path: Path) -> dict[str, str]:
    """Version by canonical package name, from lines `name==version`; other lines are ignored.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it with git, or rerun the pipeline with `dvc repro`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); restore it with git") from None
    found = (re.match(r"\s*([A-Za-z0-9._-]+)\s*==\s*([^\s;#]+)", line) for line in lines)
    return {canonical(match[1]): match[2] for match in found if match}


def write_pins(constraints: dict[str, str], packages: Iterable[str], path: Path, code: Iterable[str] = ()) -> None:
    """Write the lines `name==version` of `packages` to `path`, then those of `code`, in the order given.

    Raises:
        InputError: a package has no pin.
    """
    packages = list(packages)
    for package in packages:
        if canonical(package) not in constraints:
            raise InputError(f"{package} has no pinned version in constraints.txt; add a line {package}==VERSION")
    lines = [*(f"{package}=={constraints[canonical(package)]}" for package in packages), *code]
    write_text(path, "".join(f"{line}\n" for line in lines))


def check_installed(path: Path) -> None:
    """Check that every package named in a file of pins is installed at its pinned version.

    A local suffix of the installed version (`2.13.0+cpu`) names a build, not a version, and may differ.

    Raises:
        InputError: a package is missing or of another version.
    """
    for package, pinned in read_constraints(path).items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            raise InputError(f"{package} is not installed, but {path} pins {pinned}; run `make setup`") from None
        if installed.partition("+")[0] != pinned.partition("+")[0]:
            raise InputError(
                f"{package} {installed} is installed, but {path} pins {pinned}; run `make setup`, "
                "or change constraints.txt and run `dvc repro`"
            )
