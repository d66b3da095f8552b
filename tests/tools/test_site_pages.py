"""The site of docs/: it builds without a dead link, and shows formulas, sources and the API without the web."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("docs", "tools", "pipeline", "recipes", "corpus"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in PROJECT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_web(project: Path) -> None:
    done = build(project)
    assert done.returncode == 0, done.stderr
    site = project / "build" / "site"
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for name, page in pages.items():
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?([^\"\s>]+)", page)
        assert loaded, name
        assert not [address for address in loaded if "//" in address], name
    assert not [path for path in site.rglob("*.css") if re.search(r"url\(\W?(?:https?:)?//", path.read_text())]

    for name in ("tutorial.html", "tutorial.zh.html"):
        page = pages[name]
        assert page.count('<svg class="formula"') > 80
        assert not re.search(r"MATH\d|\$`|```", page)
        assert 'aria-label="s_t = \\tanh(U x_t + W s_{t-1})"' in page
        (line,) = set(
            re.findall(r'href="source/pipeline/model/cells.py.html#__codelineno-0-(\d+)">cells.py[^<]*31', page)
        )
        assert f'id="__codelineno-0-{line}"' in pages["source/pipeline/model/cells.py.html"]
    assert "rnnlm turns raw text" in pages["index.html"]
    assert 'href="tutorial.zh.html"' in pages["index.html"]
    assert "s_t of the plain RNN" in pages["api/model.html"]
    rooms = {path.stem for path in (PROJECT / "pipeline").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in rooms if f"api/{name}.html" not in pages} == set()


@pytest.mark.slow
def test_a_dead_link_is_an_error(project: Path) -> None:
    shutil.rmtree(project / "pipeline")  # pages of the API take most of the time
    (project / "docs" / "serving.md").write_text(
        "# Serving\n\n[a](nowhere.md), [b](../no/such.py) and [c](corpus.md#no)\n"
    )
    done = build(project)
    assert done.returncode != 0
    for target in ("nowhere.md", "../no/such.py", "corpus.md#no"):
        assert re.search(rf"WARNING -\s+Doc file 'serving.md' contains a link '{target}'", done.stderr), target
