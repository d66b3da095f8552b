"""dvc.yaml is whole, and what digests of code rely on holds of the code; a room imports only rooms before it."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.provenance.code import EXEMPT
from tests.conftest import PROJECT

# The rooms of pipeline/, root modules included: each imports only those before it.
ROOMS = ["runtime", "text", "text.sources", "model", "training", "evaluation", "params", "inference", "provenance"]
ROOMS += ["tracking", "tuning", "review", "retraining", "commands", "cli"]


def stages() -> dict[str, dict[str, Any]]:
    """Every stage of dvc.yaml; one with `foreach` as its body."""
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in content.items()}


def modules() -> dict[str, Path]:
    """The files of the project's packages, by the dotted names of their modules."""
    files = [*PROJECT.glob("pipeline/**/*.py"), *PROJECT.glob("stages/*.py")]
    names = (file.relative_to(PROJECT).with_suffix("").as_posix().replace("/", ".") for file in files)
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


MODULES = modules()


def imports_of(file: Path) -> set[tuple[str, str | None]]:
    """Module and name of all that a file imports, anywhere in it and also for annotations only."""
    found: set[tuple[str, str | None]] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import, which these tests do not follow"
            found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def modules_imported_by(file: Path) -> set[str]:
    return {name for pair in imports_of(file) for name in (pair[0], f"{pair[0]}.{pair[1]}") if name in MODULES}


@pytest.mark.parametrize("name", list(stages()))
def test_a_stage_depends_on_its_file_of_pins_and_data_alone(name: str) -> None:
    deps = stages()[name]["deps"]
    if name == "pins":
        assert deps == ["constraints.txt", "pipeline", "stages"]
    else:
        assert [dep for dep in deps if "pins" in dep and "corpus" not in dep] == [f"data/pins/{name}.txt"]
        others = {"${download.path}", "warm_start.json"}
        assert all(dep.startswith("data/") for dep in set(deps) - others)


def test_pins_writes_one_file_for_each_stage() -> None:
    outs = [out for entry in stages()["pins"]["outs"] for out in entry.items()]
    names = [name for name in stages() if name != "pins"]
    assert outs == [(f"data/pins/{name}.txt", {"persist": True}) for name in ["corpus", *names]]


@pytest.mark.parametrize("name", list(stages()))
def test_a_stage_runs_the_module_named_as_it_is(name: str) -> None:
    assert stages()[name]["cmd"].removesuffix(" ${key}") == f"python -m stages.{name}"


def test_dvc_yaml_is_a_table_of_contents() -> None:
    assert len((PROJECT / "dvc.yaml").read_text().splitlines()) < 150


def test_what_stages_import_is_python() -> None:
    """A digest of code knows nothing of other files, which code could read beside itself."""
    for folder in ("pipeline", "stages"):
        files = [path for path in (PROJECT / folder).rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        assert {path.suffix for path in files} == {".py"}


def test_a_name_is_imported_from_the_module_that_defines_it() -> None:
    """A digest leaves out imports of names that a module does not use: nobody else may get them there."""
    imported = {name: {pair[1] for pair in imports_of(file) if pair[1]} for name, file in MODULES.items()}
    for file in MODULES.values():
        for module, name in imports_of(file):
            if module in MODULES and f"{module}.{name}" not in MODULES:
                assert name not in imported[module], f"{file} imports {name} from {module}, which imports it too"


def test_every_exemption_has_a_module_that_some_stage_imports() -> None:
    paths = {file.relative_to(PROJECT) for file in MODULES.values()}
    for pattern in EXEMPT:
        assert any(path.match(pattern) for path in paths), pattern


def room(module: str) -> str:
    """Where a module of pipeline/ stands."""
    below = module.removeprefix("pipeline.")
    return "text.sources" if below.startswith("text.sources") else below.partition(".")[0]


def test_a_room_imports_only_rooms_before_it() -> None:
    for module, file in MODULES.items():
        if module.startswith("pipeline."):
            allowed = ROOMS[: ROOMS.index(room(module)) + 1]
            others = {name for name in modules_imported_by(file) if name.startswith("pipeline.")}
            assert {room(name) for name in others} <= set(allowed), f"{module} imports {sorted(others)}"


def test_the_library_never_imports_the_stages() -> None:
    for module, file in MODULES.items():
        if module.startswith("pipeline"):
            assert not any(name.startswith("stages") for name in modules_imported_by(file)), module


def test_no_parameter_has_a_name_that_the_run_cache_ignores() -> None:
    """DVC hashes a section without its keys `size` and `nfiles`, and would restore what other values of them made."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()

    for name, stage in stages().items():
        for dotted in stage.get("params", []):
            value = params
            for part in dotted.replace(".${key}", "").split("."):
                value = value[part]
            assert not keys(value) & {"size", "nfiles"}, f"{name}: {dotted}"


def test_stages_that_read_text_wait_for_no_torch() -> None:
    """Importing it takes three times as long as all that these do in a small project."""
    code = "import sys, stages.pins, stages.download, stages.tokenize, stages.vocabulary, stages.warm_start"
    slow = "print(*{'torch', 'mlflow', 'dask', 'dvc', 'matplotlib'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", f"{code}; {slow}"], cwd=PROJECT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
