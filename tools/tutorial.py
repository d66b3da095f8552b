"""docs/tutorial.md in both languages, its numbers and its figures: `make docs`.

The templates tools/tutorial.*.md hold prose; what both languages share comes from tools/tutorial.toml (formulas,
commands), the lines of code named there, and docs/tutorial/measured.json, which this program measures on data/ as
dvc.lock has it. In a template `{{one.two:.1f}}` is a number of measured.json by its keys, formatted as Python does; the
words below are blocks: `{{formulas rnn logits}}`, `{{run generate}}`.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.params import load_params
from pipeline.provenance.dvc import digest_if_there, read_lock
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.markdown import code, markdown_table
from pipeline.runtime.settings import compute_the_same_everywhere
from pipeline.runtime.stage import run

TEMPLATES = Path(__file__).parent
PAGES = {"en": Path("docs/tutorial.md"), "zh": Path("docs/tutorial.zh.md")}
FIGURES = Path("docs/tutorial")
MEASURED = FIGURES / "measured.json"
CELLS_FILE = "pipeline/model/cells.py"
FORMULA_HEADERS = {"en": ("formula", "the line that computes it"), "zh": ("公式", "计算它的代码行")}
LINE_IN = {"en": "line {}", "zh": "第 {} 行"}


def page(language: str, measured: Mapping[str, Any]) -> str:
    """The text of the tutorial in a language, from `measured`, which is what measured.json holds.

    Raises:
        InputError: the template asks for a number, formula or line that is not there.
    """
    values = measured["numbers"]
    blocks: dict[str, Callable[..., str]] = {
        "formulas": lambda *names: markdown_table(
            [FORMULA_HEADERS[language], *(_formula_row(name, language) for name in names)]
        ),
        "equation": lambda name: f"```math\n{_shared()['equations'][name]}\n```",
        "equation_inline": lambda name: f"$`{_shared()['equations'][name]}`$",
        "epochs": lambda name: ", ".join(f"{value:.1f}" for value in values["results"][name]["epochs"]),
        "run": lambda name: "\n".join(["```sh", *_shared()["commands"][name], "```"]),
        "words": lambda: _words(values["example"]),
        "suggested": lambda: _suggested(values["suggested"]),
        "samples": lambda name: "\n".join(["```text", *values["samples"][name], "```"]),
        "back": lambda *lags: "\n".join(_row(f"{lag}", *_flows(values["flow"], int(lag))) for lag in lags),
    }

    def filled(match: re.Match[str]) -> str:
        word, *arguments = match[1].split()
        try:
            if word in blocks:
                return blocks[word](*arguments)
            keys, _, form = match[1].partition(":")
            return format(_at(values, keys), form)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"tools/tutorial.{language}.md: {match[0]} cannot be filled in ({error!r})") from None

    template = (TEMPLATES / f"tutorial.{language}.md").read_text(encoding="utf-8")
    return re.sub(r"\{\{(.+?)\}\}", filled, template)


@cache
def _shared() -> dict[str, Any]:
    return tomllib.loads((TEMPLATES / "tutorial.toml").read_text(encoding="utf-8"))


def _at(values: Any, keys: str) -> Any:
    for key in keys.split("."):
        values = values[int(key)] if isinstance(values, list) else values[key]
    return values


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _formula_row(name: str, language: str) -> tuple[str, str]:
    """A formula, and its line of code with a link; with its number in cells.py, whose lines stay where they are."""
    formula = _shared()["formulas"][name]
    file = formula.get("file", CELLS_FILE)
    number, line = source_line(file, formula["line"])
    place, anchor = Path(file).name, ""
    if file == CELLS_FILE:
        place, anchor = f"{place}, {LINE_IN[language].format(number)}", f"#L{number}"
    return f"$`{formula['tex']}`$", f"{code(line)} ([{place}](../{file}{anchor}))"


def source_line(file: str, begins: str) -> tuple[int, str]:
    """The one line of `file` that begins so, after its indentation, with its number.

    Raises:
        InputError: there is no such line, or more than one.
    """
    lines = enumerate(Path(file).read_text(encoding="utf-8").splitlines(), start=1)
    found = [(number, line.strip()) for number, line in lines if line.strip().startswith(begins)]
    if len(found) != 1:
        raise InputError(f"{file} has {len(found)} lines that begin with `{begins}`; name one in tools/tutorial.toml")
    return found[0]


def _words(example: Mapping[str, Any]) -> str:
    """The rows of the example: each word in, the word to predict, and what the models say of it."""
    names = list(example)
    first = example[names[0]]
    return "\n".join(
        _row(
            str(t + 1),
            code(x),
            str(x_id),
            code(y),
            str(y_id),
            *(f"{example[n]['probability'][t]:.1%}" for n in names),
        )
        for t, (x, x_id, y, y_id) in enumerate(zip(first["x"], first["x_ids"], first["y"], first["y_ids"], strict=True))
    )


def _suggested(suggested: Mapping[str, Any]) -> str:
    ranks = zip(*suggested.values(), strict=True)
    return "\n".join(
        _row(str(rank), *(f"{code(word)} {p:.1%}" for word, p in words)) for rank, words in enumerate(ranks, start=1)
    )


def _flows(flow: Mapping[str, Any], lag: int) -> list[str]:
    return [f"{flow[name][when][lag]:.2g}" for when in ("untrained", "trained") for name in flow]


def made_from() -> dict[str, str]:
    """The hashes of what is measured, from dvc.lock, each of which lies there.

    Raises:
        InputError: a file is missing or is another one.
    """
    from tools.lesson import inputs

    known = {path: digest for record in read_lock().values() for path, digest in record.outs.items()}
    found = {}
    for path in map(Path.as_posix, inputs()):
        digest = known.get(path)
        if digest is None or digest_if_there(Path(path)) != digest:
            raise InputError(f"{path} is not what dvc.lock says; run `dvc repro` or `dvc checkout` first")
        found[path] = digest
    return found


def _json(content: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each topic, so that a diff shows what changed."""
    sections = (
        f' "{name}": {{\n' + ",\n".join(f'  "{key}": {json.dumps(entry)}' for key, entry in topics.items()) + "\n }"
        for name, topics in content.items()
    )
    return "{\n" + ",\n".join(sections) + "\n}\n"


def main() -> None:
    """Measure, write measured.json, draw the figures and write both pages."""
    from tools.lesson import measured
    from tools.pictures import draw

    hashes = made_from()
    content = {"made_from": hashes, "numbers": measured(load_params())}
    FIGURES.mkdir(parents=True, exist_ok=True)
    write_text(MEASURED, _json(content))
    draw(FIGURES, content["numbers"])
    for language, path in PAGES.items():
        write_text(path, page(language, content))
        print(path)


if __name__ == "__main__":
    compute_the_same_everywhere()
    run(main)
