"""Source `installed-docs`: the English in the docstrings of installed packages.

Files are parsed, never imported, and found by what each distribution says it installed, so nothing depends on where
packages are. Tests are left out (their docstrings are few, terse and alike), and so are vendored copies of other
packages.
"""

import ast
import csv
import gc
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from pipeline.runtime.errors import InputError
from pipeline.runtime.parallel import ordered_map
from pipeline.runtime.pins import canonical, check_installed, read_constraints
from pipeline.runtime.processors import available_processors
from pipeline.runtime.remarks import Remarks
from pipeline.text.documents import Document
from pipeline.text.sources.prose import prose

TEST_FOLDERS = frozenset({"test", "tests", "testing", "benchmarks"})
VENDOR_FOLDERS = frozenset({"externals", "_vendor", "vendored"})
MODULES_A_BLOCK = 32  # work for a process at a time: enough to outweigh sending it, small enough to share it evenly


def docstring_documents(
    packages: Iterable[str], pins: Path, by_package: bool = False, remarks: Remarks | None = None
) -> Iterator[Document]:
    """Yield a document for every module with prose in it, ordered by id.

    The id is the module's dotted name, or `by_package` that of the package it lies in, by which documents belong
    together; the text is its paragraphs, each on one line, separated by blank lines.
    Modules are read in parallel; order and content do not depend on how many processes there are.

    `pins` is a file of lines `name==version`, one for each of `packages`, which are distributions ("scikit-learn").
    What became of each module is counted in `remarks`; those that this Python cannot parse are warned of.

    Raises:
        InputError: a package has no pin, is missing, is not installed at its pinned version, or lacks files.
    """
    remarks = remarks or Remarks()
    found_modules = _modules(packages, pins)
    modules = sorted(found_modules.items())
    blocks = [modules[start : start + MODULES_A_BLOCK] for start in range(0, len(modules), MODULES_A_BLOCK)]
    for found, unparsed, number in ordered_map(_block_documents, blocks, available_processors()):
        for became, modules_so in (("documents", len(found)), ("not Python", len(unparsed))):
            remarks.count("modules", became, modules_so)
        remarks.count("modules", "without prose", number - len(found) - len(unparsed))
        for name in unparsed:
            remarks.warn("not read, as Python {}.{} cannot parse it".format(*sys.version_info), name)
        for document in found:
            package = _package(document.id, found_modules[document.id])
            yield document._replace(id=package) if by_package else document


def _package(module: str, file: Path) -> str:
    """The package that a module lies in; a package's own module lies in it, one without any in itself."""
    return module if file.name == "__init__.py" else module.rpartition(".")[0] or module


def _block_documents(modules: list[tuple[str, Path]]) -> tuple[list[Document], list[str], int]:
    """The documents of some modules, the names of those that are not Python, and how many there are in all."""
    # Syntax trees hold no cycles; looking for them would take a quarter of the time.
    gc.disable()
    try:
        texts = [(name, module_text(path)) for name, path in modules]
    finally:
        gc.enable()
    unparsed = [name for name, text in texts if text is None]
    return [Document(name, text) for name, text in texts if text], unparsed, len(texts)


def module_text(path: Path) -> str | None:
    """The prose of one source file, empty where it has none; None of one that this Python cannot parse.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; its package is damaged, install it again") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escapes in string literals
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None  # for another version of Python, or a template
    return "\n\n".join(paragraph for docstring in _docstrings(tree) for paragraph in prose(docstring))


def _modules(packages: Iterable[str], pins: Path) -> dict[str, Path]:
    """The source file of every module to read, by dotted name."""
    pinned = read_constraints(pins)
    check_installed(pins)
    modules: dict[str, Path] = {}
    for package in packages:
        if canonical(package) not in pinned:
            raise InputError(f"{pins} pins no version of {package}; run `dvc repro`, which writes it anew")
        installed = distribution(package)
        # Not `installed.files`: once some library has imported the backport of importlib.metadata, that leaves out
        # files that are missing, and the corpus would shrink in silence.
        record = installed.read_text("RECORD")
        if record is None:
            raise InputError(f"{package} keeps no record of its files; install it with pip")
        for file in (PurePosixPath(row[0]) for row in csv.reader(record.splitlines()) if row):
            if file.suffix == ".py" and _is_own(file):
                modules[_dotted(file)] = Path(str(installed.locate_file(file)))
    return modules


def _is_own(file: PurePosixPath) -> bool:
    is_test = file.name.startswith("test_") or file.name == "conftest.py"
    return file.parts[0] != ".." and not is_test and not (TEST_FOLDERS | VENDOR_FOLDERS) & set(file.parts)


def _dotted(file: PurePosixPath) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Docstrings of a module, its classes and functions, in the order of the source; expressions are not walked."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    # Definitions also stand under `if`, `try`, `with` and loops.
    for field in ("body", "handlers", "orelse", "finalbody"):
        children = getattr(node, field, ())
        for child in children if isinstance(children, list) else ():
            yield from _docstrings(child)
