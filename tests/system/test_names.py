"""A name means one thing: constants, modules, and the paths of the data folder, which dvc.yaml has too."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.provenance.code import closure
from pipeline.runtime import paths
from tests.conftest import PROJECT
from tests.system.test_dependencies import MODULES, stages

# A room has its sections of params.yaml in a module `params`; `__init__` is the package around it.
SHARED_STEMS = {"params", "__init__"}
PLACES = [path for path in vars(paths).values() if isinstance(path, Path) and path.is_relative_to(paths.DATA)]


def with_one_name(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Those that share a name with another, by that name."""
    found = defaultdict(list)
    for name, owner in pairs:
        found[name].append(owner)
    return {name: owners for name, owners in found.items() if len(owners) > 1}


def constants(file: Path) -> set[str]:
    """The names in capitals that a module assigns at its top level."""
    nodes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [target for node in nodes for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return {name for name in names if name.isupper()}


def test_no_two_modules_have_a_constant_of_one_name() -> None:
    files = [*MODULES.values(), *PROJECT.glob("benchmarks/*.py"), *PROJECT.glob("tools/*.py")]
    assert with_one_name((name, str(file)) for file in files for name in constants(file)) == {}


def test_no_two_modules_of_the_library_have_one_name() -> None:
    files = [file for name, file in MODULES.items() if name.startswith("pipeline.") and file.stem not in SHARED_STEMS]
    assert with_one_name((file.stem, str(file)) for file in files) == {}


def test_every_module_of_the_library_has_the_test_of_its_name() -> None:
    files = [file.relative_to(PROJECT / "pipeline") for name, file in MODULES.items() if name.startswith("pipeline.")]
    files = [file for file in files if file.stem not in SHARED_STEMS and file != Path("runtime/paths.py")]
    assert len(files) > 60
    assert [file for file in files if not (PROJECT / "tests" / file.parent / f"test_{file.name}").is_file()] == []


@pytest.mark.parametrize("stage", list(stages()))
def test_a_module_named_as_a_stage_is_part_of_it(stage: str) -> None:
    """A stage is named as in dvc.yaml, and may be as the module that does its work, but not as any other."""
    same = {file.relative_to(PROJECT).as_posix() for file in PROJECT.glob(f"pipeline/**/{stage}.py")}
    assert same <= set(closure(stage, PROJECT))


def test_dvc_yaml_has_the_paths_of_the_data_folder() -> None:
    kinds = ("deps", "outs", "plots", "metrics")
    entries = [entry for stage in stages().values() for kind in kinds for entry in stage.get(kind, [])]
    named = {Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries}
    written = {path for path in named if path.is_relative_to(paths.DATA)}
    assert len(written) > len(PLACES) > 9
    places = set(PLACES) - {paths.DATA}
    assert {path for path in written if not places & {path, *path.parents}} == set()
    assert {place for place in places if not any(place in (path, *path.parents) for path in written)} == set()
    assert paths.WARM_START_REQUEST in named


@pytest.mark.parametrize("module", [name for name in MODULES if name != paths.__name__])
def test_no_other_module_spells_a_path_of_the_data_folder(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    own = (*(place.as_posix() + "/" for place in PLACES), *(place.as_posix() for place in PLACES if place.parts[1:]))
    own += (str(paths.WARM_START_REQUEST), str(paths.LOCK), *paths.MODEL_FILES)
    assert [node.value for node in texts if isinstance(node.value, str) and node.value.startswith(own)] == []
