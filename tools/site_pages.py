"""What MkDocs does not do by itself for the site of docs/ (mkdocs.yml): a hook, called by its names.

- README, CONTRIBUTING, CHANGELOG and files that pages link to are pages too, their lines numbered; links go there.
- Formulas are drawn here, by matplotlib, as GitHub draws them from the same text: no script of the web is needed.
- A page for each room of pipeline/, from its docstrings.
"""

import re
from functools import cache
from html import escape
from itertools import pairwise
from os.path import normpath, relpath
from pathlib import Path, PurePosixPath
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FRONT_PAGE = "README.md"  # which is index.md there
ROOT_PAGES = (FRONT_PAGE, "CONTRIBUTING.md", "CHANGELOG.md")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
MATH = re.compile(r"^```math\n(?P<block>.+?)\n```$|\$`(?P<inline>.+?)`\$", re.M | re.S)
LINE_ANCHOR = re.compile(r"#L(?=\d)")
FONT = FontProperties(size=100, math_fontfamily="stix")  # points to an em
HIGHLIGHTED = {".py": "python", ".yaml": "yaml", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, _place(name), content=Path(name).read_text(encoding="utf-8")))
    documents = [
        *ROOT_PAGES,
        *(f"docs/{file.src_uri}" for file in files.documentation_pages() if not file.generated_by),
    ]
    for name in documents:
        text = FENCE.sub("", Path(name).read_text(encoding="utf-8"))
        for target, _ in LINK.findall(text):
            linked = _from(name, target)
            if Path(linked).is_file() and not files.get_file_from_path(_place(linked)):
                files.append(File.generated(config, _place(linked), content=_shown(Path(linked))))
    for room in _rooms():
        page = f"# {room}\n\n::: pipeline.{room}\n"
        files.append(File.generated(config, f"api/{room}.md", content=page))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each room into the navigation, where it says `api`."""
    (entry,) = [entry for entry in config.nav or [] if isinstance(entry, dict) and "API" in entry]
    entry["API"] = [f"api/{room}.md" for room in _rooms()]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site, and keep formulas from Markdown."""
    place = page.file.src_uri
    name = next((name for name in ROOT_PAGES if _place(name) == place), f"docs/{place}")
    formulas: list[str] = []

    def kept(match: re.Match[str]) -> str:
        formulas.append(_drawn(match["block"] or match["inline"], block=bool(match["block"])))
        return f"MATH{len(formulas) - 1}END"

    def led(match: re.Match[str]) -> str:
        linked = _from(name, match[1])
        anchor = match[2] or ""
        if not Path(linked).exists():
            return match[0]  # MkDocs says that it is dead
        if LINE_ANCHOR.match(anchor):
            anchor = LINE_ANCHOR.sub("?line=", anchor)  # MkDocs looks for anchors, and does not see those of lines
        return relpath(_place(linked), PurePosixPath(place).parent) + anchor

    if not page.file.generated_by or name in ROOT_PAGES:
        markdown = MATH.sub(kept, markdown)
        ends = [0, *(end for match in FENCE.finditer(markdown) for end in match.span()), len(markdown)]
        parts = [markdown[begin:end] for begin, end in pairwise(ends)]
        markdown = "".join(part if index % 2 else LINK.sub(led, part) for index, part in enumerate(parts))
    page.meta["formulas"] = formulas
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the drawn formulas where they belong, and let links to a line of a file lead there."""
    html = re.sub(r'\?line=(\d+)(?=")', r"#__codelineno-0-\1", html)
    if page.file.src_uri.endswith(".zh.md"):
        html = f'<div lang="zh-CN">{html}</div>'  # so that characters have their Chinese forms
    return re.sub(r"MATH(\d+)END", lambda match: page.meta["formulas"][int(match[1])], html)


def _from(name: str, target: str) -> str:
    """The path in the project of a link in the document `name`."""
    return normpath(PurePosixPath(name).parent / target)


def _place(path: str) -> str:
    """Where a file of the project is in the site."""
    if path == FRONT_PAGE:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith(".md") else f"source/{path}.md"


def _shown(path: Path) -> str:
    """A page with a file: itself if it is Markdown, else its lines, numbered."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = HIGHLIGHTED.get(path.suffix, "text")
    return f'---\nhide: [toc]\n---\n# {path.as_posix()}\n\n````{{ .{language} linenums="1" }}\n{text}\n````\n'


def _rooms() -> list[str]:
    """The rooms of pipeline/ in the order of CONTRIBUTING.md, which a test compares with the imports."""
    text = Path("CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/.]+)` \|", text, re.M)
    return [name.removesuffix(".py").replace("/", ".") for name in named if (Path("pipeline") / name).exists()]


@cache
def _drawn(tex: str, block: bool) -> str:
    """A formula as SVG in the colour of the text, with the formula itself for those who hear the page."""
    painter, source = TextToPath(), f"${tex}$"
    if block:
        source = source.replace(r"\frac", r"\dfrac")
    _, height, depth = (float(size) for size in painter.get_text_width_height_descent(source, FONT, True))
    points, kinds = painter.get_text_path(FONT, source, ismath=True)
    width = max(float(x) for x, _ in points)  # without the space that follows the name of a function
    path = _path_data([[float(x), float(y)] for x, y in points], [int(kind) for kind in kinds])
    size = f"width:{width / 100:.2f}em;height:{height / 100:.2f}em;vertical-align:{-depth / 100:.2f}em"
    svg = (
        f'<svg class="formula" role="img" aria-label="{escape(tex)}" style="{size}" '
        f'viewBox="0 {depth - height:.0f} {width:.0f} {height:.0f}"><path d="{path}"/></svg>'
    )
    return f'<span class="formula-block">{svg}</span>' if block else svg


def _path_data(points: list[list[float]], kinds: list[int]) -> str:
    """The d of an SVG path from a matplotlib one, whose y points up."""
    letters: dict[int, tuple[str, int]] = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}
    drawn, place = [], 0
    while place < len(kinds):
        letter, count = letters[kinds[place]]
        pairs: list[Any] = [] if letter == "Z" else points[place : place + count]
        drawn.append(letter + " ".join(f"{x:.0f} {-y:.0f}" for x, y in pairs))
        place += count
    return "".join(drawn)
