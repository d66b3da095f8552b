"""The lock: every version with hashes, nothing besides, and `make setup` installs nothing else."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.runtime.pins import read_constraints
from tests.conftest import PROJECT
from tools import lock
from tools.lock import CUDA, ENTRY, FOLDER

PINNED = read_constraints(PROJECT / "constraints.txt")
HASH = r" \\\n    --hash=sha256:[0-9a-f]{64}"


def entries(file: str) -> dict[str, re.Match[str]]:
    return {match[1]: match for match in ENTRY.finditer((PROJECT / FOLDER / file).read_text())}


def test_the_lock_has_every_pinned_version_with_hashes_and_no_other() -> None:
    files = [path.name for path in (PROJECT / FOLDER).iterdir()]
    assert sorted(files) == ["build.txt", "cuda.txt", "packages.txt", "torch.txt"]
    locked = [(name, match[2]) for file in files for name, match in entries(file).items()]
    assert sorted(locked) == sorted(PINNED.items())
    for file in files:
        # Requirements and hashes only: no address of an index, no option.
        lines = rf"(#.*\n)?([a-z0-9-]+==[^\s;]+( ; [^\\\n]+)?({HASH})+\n)+"
        assert re.fullmatch(lines, (PROJECT / FOLDER / file).read_text()), file


def test_what_builds_and_what_cuda_needs_stand_apart() -> None:
    build = tomllib.loads((PROJECT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert build == [f"{name}=={PINNED[name]}" for name in entries("build.txt")] != []
    cuda = entries("cuda.txt")
    assert cuda.keys() == {name for name in PINNED if CUDA.match(name)} > {"nvidia-cublas", "triton"}
    assert all("sys_platform == 'linux'" in match[0] for match in cuda.values())


def test_setup_installs_the_lock_and_nothing_else() -> None:
    command = ["make", "--dry-run", "--always-make", "setup"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    *locked, project = re.findall(r"-m pip .*?install (.*?)(?: \|\| .*)?$", printed, re.MULTILINE)
    files = [re.findall(r"requirements/(\w+)\.txt", install) for install in locked]
    assert files == [["build"], ["torch"], ["packages"], ["cuda"]]
    assert all("--require-hashes" in install for install in locked)
    assert project.endswith("--editable .")
    # Neither what a requirement needs nor what builds it is looked for anywhere else.
    assert all({"--no-deps", "--no-build-isolation"} <= set(install.split()) for install in [*locked, project])


def wheel(served: Path, name: str, version: str, requires: str = "") -> str:
    """Put an empty package into the folder `served`; returns its line of a lock."""
    stem = f"{name.replace('-', '_')}-{version}"
    served.mkdir(exist_ok=True)
    path = served / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in [
            ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ]:
            archive.writestr(f"{stem}.dist-info/{file}", text)
    return f"{name}=={version} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


def set_up(folder: Path, served: Path, index: Path | None = None) -> str:
    """Run `make setup` in `folder`, which must fail; returns its errors. pip sees only `served` and `index`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        if not (folder / name).exists():
            shutil.copy(PROJECT / name, folder)
    if not (folder / FOLDER).exists():
        shutil.copytree(PROJECT / FOLDER, folder / FOLDER)
    found = {"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": str(served), "PIP_CONFIG_FILE": os.devnull}
    found |= {"PIP_INDEX_URL": index.as_uri()} if index else {"PIP_NO_INDEX": "1"}
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True)
    assert done.returncode != 0
    assert not (folder / ".venv" / "ready").exists()
    return done.stderr


def installed_by(folder: Path, lines: dict[str, str], served: Path, index: Path | None = None) -> list[str]:
    """What `make setup` has installed in `folder` by a lock of these `lines`, where it fails to build the project."""
    (folder / FOLDER).mkdir()
    for name, line in lines.items():
        (folder / FOLDER / f"{name}.txt").write_text(line)
    assert "Preparing editable metadata" in set_up(folder, served, index)  # no file here can build
    return [path.stem for path in folder.glob(".venv/lib/python*/site-packages/*.dist-info")]


@pytest.mark.slow
def test_setup_refuses_a_file_that_is_not_the_locked_one(tmp_path: Path) -> None:
    wheel(tmp_path / "served", "setuptools", PINNED["setuptools"])
    errors = set_up(tmp_path, tmp_path / "served")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in errors


@pytest.mark.soak
def test_setup_refuses_a_version_that_the_lock_does_not_have(tmp_path: Path) -> None:
    text = (PROJECT / "constraints.txt").read_text()
    changed = text.replace(f"setuptools=={PINNED['setuptools']}", "setuptools==1.2.3")
    assert changed != text
    (tmp_path / "constraints.txt").write_text(changed)
    errors = set_up(tmp_path, tmp_path)
    assert f"Cannot install setuptools=={PINNED['setuptools']} because" in errors
    assert "error: pip refused; if you changed constraints.txt, run `make lock` first" in errors


def stand_ins(served: Path) -> dict[str, str]:
    """Files of the lock that name one empty package each, which lies in `served`."""
    names = {"build": "builder", "packages": "other", "cuda": "nvidia-x"}
    return {file: wheel(served, name, "1") for file, name in names.items()}


@pytest.mark.soak
def test_the_libraries_of_cuda_come_with_a_torch_that_names_them(tmp_path: Path) -> None:
    served = tmp_path / "served"
    torch = wheel(served, "torch", PINNED["torch"], "Requires-Dist: nvidia-x\n")
    assert "nvidia_x-1" in installed_by(tmp_path, {**stand_ins(served), "torch": torch}, served)


@pytest.mark.soak
def test_a_build_of_torch_in_a_folder_goes_before_the_public_one(tmp_path: Path) -> None:
    """As pip chooses without hashes. With them, it prefers a file whose hash the index names."""
    served, index, version = tmp_path / "served", tmp_path / "index", PINNED["torch"]
    public = wheel(tmp_path / "public", "torch", version, "Requires-Dist: nvidia-x\n").split()[1]
    local = wheel(served, "torch", f"{version}+cpu").split()[1]
    (index / "torch").mkdir(parents=True)
    name, fragment = f"torch-{version}-py3-none-any.whl", public.removeprefix("--hash=").replace(":", "=")
    (index / "torch" / "index.html").write_text(f'<a href="../../public/{name}#{fragment}">{name}</a>')
    torch = f"torch=={version} {public} {local}\n"
    installed = installed_by(tmp_path, {**stand_ins(served), "torch": torch}, served, index)
    assert f"torch-{version}+cpu" in installed
    assert "other-1" in installed
    assert "nvidia_x-1" not in installed


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three packages, and what uv finds for it; pip is served another build of torch than uv."""
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text('[build-system]\nrequires = ["setuptools==3"]\n')
    Path("constraints.txt").write_text("nvidia-x==4\nsetuptools==3\ntorch==2\n")
    text = "".join(
        f"{line} \\\n    --hash=sha256:{digit * 64}\n"
        for line, digit in [("nvidia-x==4 ; sys_platform == 'linux'", "a"), ("setuptools==3", "b"), ("torch==2", "c")]
    )
    monkeypatch.setattr(lock, "_compiled", lambda _: text)
    report = '{"install": [{"download_info": {"archive_info": {"hashes": {"sha256": "%s"}}}}]}'
    monkeypatch.setattr(lock, "_output", lambda _: report % ("d" * 64))
    return tmp_path / FOLDER


def test_torch_has_the_hashes_of_every_build_that_was_seen(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.write_lock()
    assert (compiled / "cuda.txt").read_text().splitlines()[1:] == [
        "nvidia-x==4 ; sys_platform == 'linux' \\",
        f"    --hash=sha256:{'a' * 64}",
    ]
    assert "setuptools==3 \\\n" in (compiled / "build.txt").read_text()
    assert re.findall(r":(\w)\1+", (compiled / "torch.txt").read_text()) == ["c", "d"]
    # Another machine's build is added to them; of another version, none is kept.
    report = '{"install": [{"download_info": {"archive_info": {"hashes": {"sha256": "%s"}}}}]}' % ("e" * 64)
    monkeypatch.setattr(lock, "_output", lambda _: report)
    lock.write_lock()
    assert re.findall(r":(\w)\1+", (compiled / "torch.txt").read_text()) == ["c", "d", "e"]
    (compiled / "torch.txt").write_text(f"torch==1 \\\n    --hash=sha256:{'f' * 64}\n")
    lock.write_lock()
    assert re.findall(r":(\w)\1+", (compiled / "torch.txt").read_text()) == ["c", "e"]


def test_constraints_that_do_not_fit_are_named(compiled: Path) -> None:
    Path("constraints.txt").write_text("setuptools==3\nold==1\ntorch==2\n")
    with pytest.raises(lock.InputError, match=r"^constraints\.txt: add nvidia-x==4; remove old==1; then run"):
        lock.write_lock()
    assert not compiled.exists()


def test_a_tool_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lock.InputError, match=r"^no lock was written: `no_such_module` failed"):
        lock._output([sys.executable, "-m", "no_such_module"])
