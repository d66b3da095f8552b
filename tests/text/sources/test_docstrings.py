import shutil
from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.pins import read_constraints, write_pins
from pipeline.text.sources import docstrings
from pipeline.text.sources.docstrings import docstring_documents, module_text
from tests.conftest import PROJECT

SENTENCE = "This is the sentence of {}, which is long enough."
MODULE = f'''
"""{SENTENCE.format("the module")}"""

ATTRIBUTE = 1
"""{SENTENCE.format("an attribute")}"""


class Outer:
    "{SENTENCE.format("the class")}"

    def method(self):
        """{SENTENCE.format("the method")}

        A second paragraph\\u2014of the method\\u2014goes here.
        """

        def inner():
            """{SENTENCE.format("the inner function")}"""


if ATTRIBUTE:
    try:
        async def conditional():
            """{SENTENCE.format("the conditional function")}"""
    except ValueError:
        def handler(): """{SENTENCE.format("the handler")}"""
    else:
        def otherwise(): """{SENTENCE.format("the else branch")}"""

notes = dict(text="""{SENTENCE.format("an expression")}""")
raise SystemExit("importing this module ends the test")
'''
WHERE = ["the module", "the class", "the method"]
REST = ["the inner function", "the conditional function", "the handler", "the else branch"]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a distribution `toy-lib` 1.0 with a package named otherwise, the way pip leaves it."""

    def install_into(folder: str, version: str = "1.0", removed: str | None = None) -> Path:
        site = tmp_path / folder
        own = ["toy/__init__.py", "toy/part/__init__.py", "toy/part/module.py", "toy_single.py"]
        others = [
            "toy/tests/thing.py",
            "toy/test_thing.py",
            "toy/externals/vendored.py",
            "toy/data.txt",
            "../bin/toy.py",
        ]
        for name in [*own, *others]:
            file = site / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'"""{SENTENCE.format(name.replace("/", " of "))}"""\n', encoding="utf-8")
        (site / "toy/part/module.py").write_text(MODULE, encoding="utf-8")
        (site / "toy/empty.py").write_text("x = 1\n", encoding="utf-8")
        (site / "toy/broken.py").write_text("def :\n", encoding="utf-8")
        (site / "toy/unrecorded.py").write_text(f'"""{SENTENCE.format("a stray file")}"""', encoding="utf-8")
        information = site / f"toy_lib-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-lib\nVersion: {version}\n")
        record = "".join(f"{name},,\n" for name in ["toy/empty.py", "toy/broken.py", *others, *own[::-1]])
        (information / "RECORD").write_text(record)
        if removed:
            (site / removed).unlink()
        monkeypatch.syspath_prepend(str(site))
        return site

    return install_into


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("toy-lib==1.0\n")
    return path


def test_one_document_a_module_of_the_distribution_alone(install, pins: Path) -> None:
    install("site")
    found = {document.id: document.text for document in docstring_documents(["toy-lib"], pins)}
    assert list(found) == ["toy", "toy.part", "toy.part.module", "toy_single"]
    assert found["toy_single"] == "This is the sentence of toy_single.py, which is long enough."


def test_modules_of_one_package_share_an_id_on_request(install, pins: Path) -> None:
    install("site")
    alone, together = (list(docstring_documents(["toy-lib"], pins, by_package)) for by_package in (False, True))
    assert [document.id for document in together] == ["toy", "toy.part", "toy.part", "toy_single"]
    assert [document.text for document in together] == [document.text for document in alone]


def test_docstrings_of_bodies_in_the_order_of_the_source(install) -> None:
    sentences = [SENTENCE.format(where) for where in WHERE]
    sentences += ["A second paragraph—of the method—goes here.", *(SENTENCE.format(where) for where in REST)]
    assert module_text(install("site") / "toy/part/module.py") == "\n\n".join(sentences)


def test_neither_folder_nor_number_of_processes_matters(install, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docstrings, "MODULES_A_BLOCK", 2)
    found = []
    for folder, workers in (("one", 1), ("another/place", 2)):
        site = install(folder)
        monkeypatch.setattr(docstrings, "available_processors", lambda workers=workers: workers)
        found.append(list(docstring_documents(["Toy_Lib"], pins)))
        shutil.rmtree(site)
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_a_build_of_the_pinned_version_will_do(install, pins: Path) -> None:
    install("site", version="1.0+cpu")
    assert len(list(docstring_documents(["toy-lib"], pins))) == 4


def test_another_version_is_refused(install, pins: Path) -> None:
    install("site", version="1.1")
    with pytest.raises(InputError, match=r"toy-lib 1\.1 is installed, but .*corpus\.txt pins 1\.0"):
        list(docstring_documents(["toy-lib"], pins))


def test_a_missing_package_is_refused(pins: Path) -> None:
    with pytest.raises(InputError, match="toy-lib is not installed"):
        list(docstring_documents(["toy-lib"], pins))


def test_a_package_without_a_pin_is_refused(install, pins: Path) -> None:
    install("site")
    with pytest.raises(InputError, match="pins no version of numpy; run `dvc repro`"):
        list(docstring_documents(["toy-lib", "numpy"], pins))


def test_a_missing_file_is_refused(install, pins: Path) -> None:
    import importlib_metadata  # noqa: F401 (the backport, which replaces what finds distributions)

    install("site", removed="toy_single.py")
    with pytest.raises(InputError, match=r"cannot read .*toy_single\.py: No such file or directory"):
        list(docstring_documents(["toy-lib"], pins))


def test_a_real_package_reads_as_english(tmp_path: Path) -> None:
    pins = tmp_path / "corpus.txt"
    write_pins(read_constraints(PROJECT / "constraints.txt"), ["networkx"], pins)
    text = "\n\n".join(text for _, text, *_ in docstring_documents(["networkx"], pins))
    words = text.split()
    assert 70_000 < len(words) < 120_000
    assert sum(word in ("the", "a", "of", "is") for word in words) > 0.12 * len(words)
    assert not any(junk in text for junk in ("`", ">>>", "{", "-----", ":func:", "::", "http"))
