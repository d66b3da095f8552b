"""What an edit of the code reruns: nothing where it changes no meaning, else exactly the stages that import it."""

import ast
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.provenance.code import EXEMPT, code_lines, digest
from tests.conftest import PROJECT
from tests.system.conftest import CELLS, Clone

STAGES = [name for name in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"] if name != "pins"]


def is_exempt(path: str) -> bool:
    return any(Path(path).match(pattern) for pattern in EXEMPT)


def annotations(node: ast.AST) -> list[ast.expr]:
    """Those of a function."""
    found = []
    if isinstance(node, ast.FunctionDef):
        spec = node.args
        arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
        found = [node.returns, *(argument.annotation for argument in arguments if argument)]
    return [annotation for annotation in found if annotation is not None]


def imported_when_run(path: str) -> Iterator[str]:
    """Dotted names of what a module imports and uses when it runs: neither for type checkers nor for annotations."""
    tree = ast.parse((PROJECT / path).read_text())
    nodes = list(ast.walk(tree))
    silent = {id(part) for node in nodes for whole in annotations(node) for part in ast.walk(whole)}
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            silent |= {id(part) for part in ast.walk(node)}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in silent}
    for node in nodes:
        if not isinstance(node, ast.Import | ast.ImportFrom) or id(node) in silent:
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) in used:
                yield from (
                    (alias.name,)
                    if isinstance(node, ast.Import)
                    else (
                        str(node.module),
                        f"{node.module}.{alias.name}",
                    )
                )


def modules_of(stage: str) -> set[str]:
    """Files that a stage imports, found by a walk of this test's own."""
    found, waiting = set(), [f"stages/{stage}.py"]
    while waiting:
        path = waiting.pop()
        if path not in found and not is_exempt(path):
            found.add(path)
            for name in imported_when_run(path):
                stem = name.replace(".", "/")
                waiting += [file for file in (f"{stem}.py", f"{stem}/__init__.py") if (PROJECT / file).is_file()]
                waiting += [f"{folder}/__init__.py" for folder in map(str, Path(stem).parents)
                            if (PROJECT / folder / "__init__.py").is_file() and folder != "."]  # fmt: skip
    return found


@cache
def imported() -> dict[str, set[str]]:
    """Files that each stage imports."""
    return {stage: modules_of(stage) for stage in STAGES}


def modules() -> list[str]:
    """Those that any stage imports."""
    return sorted(set().union(*imported().values()))


def test_parameters_that_code_reads_are_code() -> None:
    """What `auto` means, which values of an archive's address count: changed there alone, they would rerun nothing."""
    expected = {
        "pipeline/training/params.py": {"train"},
        "pipeline/model/params.py": {"train", "evaluate", "baselines"},
        "pipeline/runtime/urls.py": {"download", "warm_start"},
    }
    for path, stages in expected.items():
        assert {stage for stage in STAGES if path in imported()[stage]} == stages


def replaced(source: bytes, edits: list[tuple[ast.expr, bytes]]) -> bytes:
    """The source with other text in place of these expressions."""
    lines = [0, *(place + 1 for place, byte in enumerate(source) if byte == ord("\n"))]
    spans = [
        (lines[node.lineno - 1] + node.col_offset, lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0), text)
        for node, text in edits
    ]
    for start, end, text in sorted(spans, reverse=True):
        source = source[:start] + text + source[end:]
    return source


def docstring(node: ast.AST) -> ast.expr | None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        first = node.body[0]
        return first.value if isinstance(first, ast.Expr) else None
    return None


def reworded(source: bytes) -> bytes:
    """Other comments and docstrings, and other annotations of every function."""
    edits: list[tuple[ast.expr, bytes]] = []
    for node in ast.walk(ast.parse(source)):
        if (text := docstring(node)) is not None:
            edits.append((text, b'"""Other words."""'))
        # A type that there is: pydantic reads those of serializers.
        edits += [(annotation, b'"object"') for annotation in annotations(node)]
    return b"# Above all, a comment.\n" + replaced(source, edits) + b"# And another.\n"


def with_another_constant(source: bytes) -> bytes:
    """The last number or text that the code uses is another; a module that has none gets one."""
    tree = ast.parse(source)
    words = {id(text) for node in ast.walk(tree) if (text := docstring(node)) is not None}
    for node in ast.walk(
        tree
    ):  # neither what only annotates nor pieces of f-strings, whose places Python 3.11 mistakes
        inside = [node] if isinstance(node, ast.JoinedStr) else []
        inside += annotations(node) + ([node.annotation] if isinstance(node, ast.AnnAssign) else [])
        words |= {id(part) for whole in inside if whole is not None for part in ast.walk(whole)}
    for node in reversed(list(ast.walk(tree))):
        if isinstance(node, ast.Constant) and id(node) not in words and type(node.value) in (int, str):
            other = node.value + 1 if isinstance(node.value, int) else f"{node.value} "
            return replaced(source, [(node, ascii(other).encode())])
    return source + b"ANOTHER = 1\n"


@pytest.mark.slow
def test_words_and_annotations_rerun_nothing_but_pins(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "clone")
    for path in modules():
        file = clone.folder / path
        file.write_bytes(reworded(file.read_bytes()))
    before = clone.digests()
    said = clone.dvc("repro")
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'pins':"]
    assert "nothing changed in meaning" in said
    assert clone.digests() == before
    assert clone.repro() == []


@pytest.mark.slow
def test_a_constant_reruns_the_stages_that_import_it(tmp_path: Path) -> None:
    for folder in ("pipeline", "stages"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = {stage: code_lines(stage, tmp_path) for stage in STAGES}
    assert {stage: {line.split()[0] for line in lines} for stage, lines in before.items()} == imported()
    for number, path in enumerate(modules()):
        original = (tmp_path / path).read_bytes()
        assert digest(with_another_constant(original)) != digest(original), path
        if number % 8:
            continue  # its digest is in the lines of just the stages that import it, see above
        (tmp_path / path).write_bytes(with_another_constant(original))
        others = {stage for stage in STAGES if code_lines(stage, tmp_path) != before[stage]}
        assert others == {stage for stage in STAGES if path in imported()[stage]}, path
        (tmp_path / path).write_bytes(original)
    # The fields of a class are what it does, and their order too.
    documents = tmp_path / "pipeline/text/documents.py"
    fields = documents.read_text()
    assert "    id: str\n    text: str\n" in fields
    documents.write_text(fields.replace("    id: str\n    text: str\n", "    text: str\n    id: str\n"))
    assert code_lines("download", tmp_path) != before["download"]


def dvc_status(clone: Clone) -> dict[str, Any]:
    return json.loads(clone.dvc("status", "--json"))


@pytest.mark.slow
def test_dvc_names_the_stages_that_import_a_changed_constant(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "clone")
    edited = ("pipeline/text/deduplication.py", "pipeline/model/batches.py", "pipeline/evaluation/figures.py")
    originals = {clone.folder / path: (clone.folder / path).read_bytes() for path in edited}
    for file, original in originals.items():
        file.write_bytes(with_another_constant(original))
    said = clone.dvc("repro", "pins")
    names = set()
    for path in edited:
        importing = [stage for stage in STAGES if path in imported()[stage]]
        shown = [f"{stage}@..." if stage in ("train", "evaluate") else stage for stage in importing]
        assert f"{path} changed in meaning; reruns {', '.join(shown)}\n" in said
        for stage in importing:
            names |= {f"{stage}@{cell}" for cell in CELLS} if stage in ("train", "evaluate") else {stage}
    by_code = {
        name
        for name, entries in dvc_status(clone).items()
        for entry in entries
        if f"data/pins/{name.partition('@')[0]}.txt" in entry.get("changed deps", {})
    }
    assert by_code == names
    assert any(not any(path in imported()[stage] for path in edited) for stage in STAGES)
    for file, original in originals.items():
        file.write_bytes(original)
    clone.dvc("repro", "pins")
    assert dvc_status(clone) == {}
