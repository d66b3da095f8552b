"""requirements/: every version in constraints.txt with the hashes of its files, in pip's format.

`make lock` runs this module, and `make setup` installs what it wrote and nothing else. uv finds the packages that any
machine and any Python from 3.11 on needs, and the hashes of all files that the package index has of each version. Of
torch, a machine may be served another build than the public one, which uv does not see; pip tells its hash.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.pins import read_constraints

FOLDER = Path("requirements")
WRITTEN_BY = "# Written by `make lock`, from pyproject.toml and constraints.txt.\n"
# What only a build of torch for CUDA needs: gigabytes, which a machine with another build does without.
CUDA = re.compile(r"(cuda|nvidia)-|triton$")
# A requirement in pip's format: the lines that a backslash joins.
ENTRY = re.compile(r"^([a-z0-9-]+)==([^\s;]+)(?:.*\\\n)*.*\n", re.MULTILINE)


def write_lock() -> None:
    """Write build.txt (what builds packages), torch.txt, cuda.txt and packages.txt (the rest) of `requirements/`.

    Raises:
        InputError: constraints.txt and pyproject.toml do not fit together, or a package index gave no answer.
    """
    pinned = {f"{name}=={version}" for name, version in read_constraints(Path("constraints.txt")).items()}
    build = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    entries = {match[1]: match for match in ENTRY.finditer(_compiled(build))}
    found = {f"{name}=={match[2]}" for name, match in entries.items()}
    if found != pinned:
        missing, needless = (", ".join(sorted(pins)) or "nothing" for pins in (found - pinned, pinned - found))
        raise InputError(f"constraints.txt: add {missing}; remove {needless}; then run `make lock` again")
    texts = {name: match[0] for name, match in entries.items()}
    texts["torch"] = _with_hashes(texts["torch"], _torch_hashes(entries["torch"][2]))
    apart = {requirement.partition("==")[0]: "build" for requirement in build} | {"torch": "torch"}
    files: dict[str, str] = dict.fromkeys(("build", "torch", "cuda", "packages"), WRITTEN_BY)
    for name, text in sorted(texts.items()):
        files["cuda" if CUDA.match(name) else apart.get(name, "packages")] += text
    FOLDER.mkdir(exist_ok=True)
    for name, text in files.items():
        write_text(FOLDER / f"{name}.txt", text)


def _compiled(build: list[str]) -> str:
    """What uv finds for all of pyproject.toml, `build` included."""
    options = "--all-extras --constraint constraints.txt --universal --python-version 3.11 --generate-hashes"
    options += " --no-header --no-annotate --quiet"
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "build.in")).write_text("\n".join(build), encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", str(path), *options.split()]
        return _output(command)


def _torch_hashes(version: str) -> set[str]:
    """SHA-256 of the build that pip installs here, and of all that the lock has for `version` already."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    report = json.loads(_output([*command, "--report", "-", f"torch=={version}"]))
    here = report["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"]
    path = FOLDER / "torch.txt"
    old = ENTRY.search(path.read_text(encoding="utf-8") if path.exists() else "")
    return {here, *re.findall(r"sha256:(\w+)", old[0] if old and old[2] == version else "")}


def _with_hashes(entry: str, hashes: set[str]) -> str:
    """A requirement that allows `hashes` besides its own."""
    first, *_ = entry.split(" \\\n")
    every = sorted({*hashes, *re.findall(r"sha256:(\w+)", entry)})
    return " \\\n    ".join([first, *(f"--hash=sha256:{value}" for value in every)]) + "\n"


def _output(command: list[str]) -> str:
    """What `command` prints; its errors go to ours."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"no lock was written: `{' '.join(command[2:5])}` failed, for the reason above")
    return done.stdout


if __name__ == "__main__":
    try:
        write_lock()
    except InputError as error:
        sys.exit(f"error: {error}")
