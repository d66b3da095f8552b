"""A digest of code changes with what the code does, and with nothing else."""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.provenance.code import changed, closure, code_lines, digest, libraries, read_pins
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT

MODULES = sorted([*PROJECT.glob("pipeline/**/*.py"), *PROJECT.glob("stages/*.py")])
SOURCES = {path.relative_to(PROJECT).as_posix(): path.read_text() for path in MODULES}

EVERY_SYNTAX = r'''
"""All kinds of syntax."""
from __future__ import annotations
import os, sys as system
from typing import TYPE_CHECKING, Any, NamedTuple
if TYPE_CHECKING:
    from collections.abc import Iterator
else:
    Iterator = None
LIMIT: int = 1_000_000_007
mask, ratio, wave, raw, text = 0xFF, 1.5e-3, 2j, b"\x00\xff", "naïve — 日本 \U0001F600 \u1c89"
huge = 0x{huge}
class Row(NamedTuple, metaclass=type):
    """A row."""
    name: str
    size: "int | None" = None
    def area(self, /, a, b: int = 2, *rest: Any, key=..., **more) -> int:
        local: int = 1
        later: str
        nonlocal_ = lambda x, *y, z=3, **w: (x, y, z, w)
        def inner():
            nonlocal local
            local += 1; return local
        return inner() if a else -b @ local // 2 ** 3 % 5 | 1 ^ 2 & 3 << 4 >> 1
@property
async def walk(items, *, depth=0):
    async with open(items) as file, other(file):
        async for line in file:
            yield await line
    result = [x async for x in items if x if not depth]
    return
def strings(d, width):
    return (f"{d['a']!r:>{width}} {{literal}} " "and" f' {d["b"]:.3f}{width=} ' f"{d:}" rf"\d{d}" f"" f"{f'{d}' + 'x'}")
def kinds(value):
    match value:
        case 0 | -1.5 | None | True: pass
        case [first, *_, last] if first: return last
        case {"key": key, **others}: return others
        case Row(name="x", size=s) as row: return s
        case str() | bytes(): return ...
        case _: raise ValueError(value) from None
    try:
        del value[1:2, ::3], value.x
    except* (OSError, KeyError) as group:
        assert group, "why"
    else:
        global LIMIT
    finally:
        print(*value, **{"a": 1, **value}, sep="")
    while (n := len(value)) > 1 and not n in {1, 2} or n is not None: continue
    for i, (j, *k) in enumerate(value): break
    return {a: b for a, b in value}, {a for a in value}, (a for a in value), value[...]
'''.replace("{huge}", "9" * 6000)


def test_the_digest_is_the_same_in_every_version_of_python() -> None:
    """The literal was found with 3.11.7, 3.12.1 and 3.13.0; whoever runs this with another one is one more witness."""
    assert digest(EVERY_SYNTAX) == "2e803f529265dbef"


def _without_effect(tree: ast.Module, edits: set[str]) -> str:
    """The module written anew, by Python's own hand, and changed as `edits` say."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            if "docstring" in edits:
                documented = ast.get_docstring(node) is not None
                node.body[:documented] = [ast.Expr(ast.Constant("Other words."))]
            elif "no docstring" in edits and ast.get_docstring(node) is not None:
                node.body[:1] = [] if isinstance(node, ast.Module) else [ast.Pass()]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if "annotation" in edits and functions:
        for function in functions:
            function.returns = ast.Name("Iterable")
            for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
                argument.annotation = ast.Constant("Iterable[str]")
        imports = "from collections.abc import Iterable\nif TYPE_CHECKING:\n    import torch"
        first = ast.get_docstring(tree) is not None
        tree.body[first:first] = ast.parse(imports).body
    text = ast.unparse(ast.fix_missing_locations(tree))
    if "comment" in edits:
        lines = text.splitlines()
        for line in sorted({node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)})[::-1]:
            lines[line - 1 : line - 1] = ["", "   # a comment"]
        text = "\r\n".join(lines) + "\r\n# the end"
    return text


EDITS = ["comment", "docstring", "no docstring", "annotation"]


@pytest.mark.parametrize("edit", [*EDITS, "nothing but its format"])
def test_words_annotations_and_format_do_not_matter(edit: str) -> None:
    for path, source in SOURCES.items():
        assert digest(_without_effect(ast.parse(source), {edit})) == digest(source), path


@settings(deadline=None, max_examples=30)
@given(path=st.sampled_from(sorted(SOURCES)), edits=st.sets(st.sampled_from(EDITS)))
def test_nor_do_several_such_edits_at_once(path: str, edits: set[str]) -> None:
    assert digest(_without_effect(ast.parse(SOURCES[path]), edits)) == digest(SOURCES[path])


def _that_run(node: ast.AST, in_class: bool = False) -> Iterator[ast.AST]:
    """The nodes of a tree that decide what it does."""
    yield node
    for name, value in ast.iter_fields(node):
        if name == "returns" or (name == "annotation" and not (isinstance(node, ast.AnnAssign) and in_class)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            inside = isinstance(node, ast.ClassDef) if isinstance(child, ast.stmt) else in_class
            yield from _that_run(child, inside)


def _with_effect(node: ast.AST) -> bool:
    """Change what a node does; False where there is nothing to change in it alone."""
    before = ast.dump(node)
    match node:
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Constant(value=str() as value):
            node.value = value + "x"
        case ast.Constant(value=None):
            node.value = 0
        case ast.Name():
            node.id += "_"
        case ast.Attribute():
            node.attr += "_"
        case ast.arg() | ast.keyword(arg=str()):
            node.arg = f"{node.arg}_"
        case ast.FunctionDef(decorator_list=[_, *_]) | ast.ClassDef(decorator_list=[_, *_]):
            node.decorator_list.pop()
        case ast.FunctionDef() | ast.ClassDef():
            node.name += "_"
        case ast.arguments(defaults=[_, *_]):
            node.defaults.pop(0)
        case ast.arguments(kw_defaults=[ast.AST(), *_]):
            node.kw_defaults[0] = None
        case ast.BinOp() | ast.AugAssign():
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        case ast.BoolOp():
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case ast.UnaryOp():
            node.op = ast.Invert() if isinstance(node.op, ast.Not) else ast.Not()
        case ast.Compare():
            node.ops[0] = ast.LtE() if isinstance(node.ops[0], ast.Lt) else ast.Lt()
        case ast.If() | ast.While() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Return(value=ast.AST()):
            node.value = None
        case ast.comprehension(ifs=[_, *_]):
            node.ifs.pop()
        case ast.FormattedValue():
            node.conversion = -1 if node.conversion == 114 else 114
    return ast.dump(node) != before


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_every_change_of_what_runs_matters(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(SOURCES)))
    tree = ast.parse(SOURCES[path])
    node = data.draw(st.sampled_from(list(_that_run(tree))))
    if _with_effect(node):
        assert digest(ast.unparse(ast.fix_missing_locations(tree))) != digest(SOURCES[path]), ast.unparse(node)


FIELDS = """
    from typing import NamedTuple
    class Document(NamedTuple):
        id: str
        text: str
        count: int = 0
    """


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("id: str\n        text: str", "text: str\n        id: str"),
        ("count: int", "count: float"),
        ("count: int", "count: 'int'"),
        ("NamedTuple", "Protocol"),
        ("= 0", "= None"),
    ],
)
def test_fields_of_a_class_are_what_it_does(before: str, after: str) -> None:
    assert digest(textwrap.dedent(FIELDS.replace(before, after))) != digest(textwrap.dedent(FIELDS))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x: int = 1"),
        ("def f(): x = 1", "def f() -> None:\n  x: int = 1"),
        ("x = 1", "total: int\nx = 1"),
        ("x = 1", "from typing import Any\nx: Any = 1"),
        ("def f(a): return a", "from m import T, U\ndef f(a: T) -> 'U[int]': return a"),
        ("class A: x: int", "class A:\n  '''Words.'''\n  x: int\n  '''More.'''"),
        ("def f(a): return a", "import left.over\nfrom m import T\ndef f(a): return a"),
        ("f'a{x}b'", "f'a' f'{x:}' 'b'"),
        ("x = 255", "x = 0xF_F"),
    ],
)
def test_two_ways_to_say_the_same(before: str, after: str) -> None:
    assert digest(before) == digest(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(): return x", "def f():\n  x: int\n  return x"),  # now it is local
        ("import a\na.f()", "import b as a\na.f()"),
        ("from m import T\nx: T = T()", "from n import T\nx: T = T()"),
        ("from m import T as T", "from n import T as T"),
        ("from m import T\nclass A:\n  x: 'T'", "from n import T\nclass A:\n  x: 'T'"),
        ("from m import T\n__all__ = ['T']\nx: T = 1", "from n import T\n__all__ = ['T']\nx: T = 1"),
        ("from __future__ import annotations\nx = 1", "x = 1"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = (1, 2)", "x = [1, 2]"),
        ("f'{x}'", "f'{x!s}'"),
        ("f'{x:3}'", "f'{x:4}'"),
        ("a if b else c", "c if b else a"),
        ("def f(a, b): 0", "def f(a, *, b): 0"),
        ("if not TYPE_CHECKING: f()", "if not TYPE_CHECKING: g()"),
        ("if TYPE_CHECKING: f()\nelse: g()", "if TYPE_CHECKING: f()\nelse: h()"),
    ],
)
def test_two_things_that_are_not_the_same(before: str, after: str) -> None:
    assert digest(before) != digest(after)


def test_a_package_may_offer_what_it_imports() -> None:
    assert digest("from m import x", package=True) != digest("from n import x", package=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with every way to import, and names that are only annotated with what is imported."""
    files = {
        "stages/__init__.py": "import pipeline.never",
        "stages/train.py": "import pipeline.a.one\nfrom pipeline.a import two, constant\nimport numpy\n"
        "from pipeline.never import Never\nimport pandas as pd\nprint(pipeline.a.one, two, constant, numpy)\n"
        "def f(x: Never, *, y: pd.DataFrame) -> Never: ...",
        "pipeline/__init__.py": "",
        "pipeline/never.py": "",
        "pipeline/a/__init__.py": "from pipeline.b import constant",
        "pipeline/a/one.py": "def f():\n  from . import three\n  from ..b.deep import x\n  import torch.nn\n"
        "  return three, x, torch",
        "pipeline/a/two.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import pipeline.never",
        "pipeline/a/three.py": "import pipeline.runtime.progress, pyarrow as pa\nprint(pipeline, pa)",
        "pipeline/a/four.py": "",
        "pipeline/b/__init__.py": "constant = 1",
        "pipeline/b/deep.py": "x = 1",
        "pipeline/runtime/progress.py": "import pipeline.never, matplotlib",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_of_a_stage_is_all_that_it_imports(project: Path) -> None:
    assert closure("train", project) == [
        "pipeline/__init__.py",
        "pipeline/a/__init__.py",
        "pipeline/a/one.py",
        "pipeline/a/three.py",
        "pipeline/a/two.py",
        "pipeline/b/__init__.py",
        "pipeline/b/deep.py",
        "stages/train.py",
    ]


def test_libraries_are_those_that_the_closure_imports(project: Path) -> None:
    assert libraries("train", project) == ["numpy", "pyarrow", "torch"]


def test_lines_tell_which_module_and_library_changed(project: Path) -> None:
    path = project / "train.txt"
    path.write_text("\n".join(["torch==1", *code_lines("train", project)]))
    before = read_pins(path)
    (project / "pipeline/b/deep.py").write_text("x = 2  # more\n")
    (project / "pipeline/a/four.py").write_text("x = 2\n")
    (project / "pipeline/a/two.py").write_text("from pipeline.a import four\nfour.x\n")
    path.write_text("\n".join(["torch==2", *code_lines("train", project)]))
    after = read_pins(path)
    assert after["torch"] == "2"
    assert changed(before, after) == ["pipeline/a/four.py", "pipeline/a/two.py", "pipeline/b/deep.py", "torch"]
    assert changed(after, after) == []


def test_what_cannot_be_parsed_or_known_is_refused(project: Path) -> None:
    (project / "pipeline/a/two.py").write_text("x = 1\nif x\n")
    with pytest.raises(InputError, match=r"pipeline/a/two\.py line 2 is not Python"):
        closure("train", project)
    (project / "pipeline/a/two.py").write_text("from pipeline.a import *\n")
    with pytest.raises(InputError, match=r"two\.py says `from pipeline\.a import \*`"):
        closure("train", project)
