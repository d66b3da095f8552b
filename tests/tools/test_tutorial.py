"""The tutorial is what its templates, the measurements and the code make of it, and says the same in both languages."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT, SOAK
from tests.test_docs import committed
from tools.pictures import draw
from tools.tutorial import CELLS_FILE, FIGURES, MEASURED, PAGES, page

AGAIN = "the tutorial is out of date: run `make docs`, and commit docs/"
CONTENT = json.loads((PROJECT / MEASURED).read_text(encoding="utf-8"))
NUMBERS = CONTENT["numbers"]
TEXTS = {language: (PROJECT / path).read_text(encoding="utf-8") for language, path in PAGES.items()}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.mark.parametrize("language", PAGES)
def test_a_page_is_what_template_measurements_and_code_make(language: str) -> None:
    assert page(language, CONTENT) == TEXTS[language], AGAIN


def test_what_was_measured_are_the_committed_results() -> None:
    stages = yaml.safe_load(committed("dvc.lock"))["stages"].values()
    lock = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    assert len(CONTENT["made_from"]) > 20
    assert CONTENT["made_from"] == {path: lock.get(path) for path in CONTENT["made_from"]}, AGAIN


def test_the_figures_are_drawn_from_the_measurements(tmp_path: Path) -> None:
    draw(tmp_path, NUMBERS)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in FIGURES.glob("*.png")}, AGAIN
    assert len(drawn) == 4
    assert sum(map(len, drawn.values())) < 400_000
    for text in TEXTS.values():
        assert {name for name in drawn if f"(tutorial/{name})" in text} == set(drawn)


def test_each_number_of_another_seed_makes_another_page() -> None:
    for name in ("rnn", "lstm", "gru"):
        other = json.loads(json.dumps(CONTENT))
        other["numbers"]["results"][name]["perplexity"] += 0.1
        assert page("zh", other) != TEXTS["zh"]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lines of code that the tutorial quotes, free to change; the program reads them from the current folder."""
    shutil.copytree(PROJECT / "pipeline" / "model", tmp_path / "pipeline" / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path / CELLS_FILE


@pytest.mark.parametrize(
    "line", [line for line in (PROJECT / CELLS_FILE).read_text().splitlines() if " sigmoid(" in line]
)
def test_another_line_of_the_equations_makes_another_page(copy: Path, line: str) -> None:
    copy.write_text(copy.read_text().replace(line, line.replace("sigmoid(", "sigmoid(2 * ")))
    assert page("en", CONTENT) != TEXTS["en"]


def test_lines_that_move_make_another_page_and_lines_that_go_an_error(copy: Path) -> None:
    text = copy.read_text()
    copy.write_text(f"# moved\n{text}")
    assert page("en", CONTENT) != TEXTS["en"]
    copy.write_text(text.replace("    return (1 - z) * h", "    return h - z * h"))
    with pytest.raises(InputError, match=r"cells\.py has 0 lines that begin with `return \(1 - z\) \* h`"):
        page("en", CONTENT)


def test_a_number_that_is_not_there_is_named() -> None:
    del (other := json.loads(json.dumps(CONTENT)))["numbers"]["torch_gru"]["theirs"]
    with pytest.raises(InputError, match=r"tutorial\.en\.md: \{\{torch_gru\.theirs:\.1f\}\} cannot be filled in"):
        page("en", other)


def sections(text: str) -> list[str]:
    return re.split(r"^## .*$", text, flags=re.M)


# What must be equal in both languages. Prose may say `two` where the other has a sign, so numbers in digits count.
KINDS = {
    "blocks": r"^```\w+\n.*?^```$",
    "formulas and code": r"\$?`[^`\n]+`\$?",
    "links": r"\]\((?!#|tutorial(?:\.zh)?\.md)([^)]+)\)",
    "numbers": r"(?<![\w.^{-])-?\d[\d,.]*\d%?|\d%?",
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_languages_say_the_same(kind: str) -> None:
    pairs = list(zip_longest(*(sections(text) for text in TEXTS.values())))
    assert len(pairs) == 18
    for english, chinese in pairs:
        found = [things(text, kind) for text in (english, chinese)]
        assert found[0] == found[1], english[:60]
    assert len(things(TEXTS["en"], kind)) > 10


def things(text: str, kind: str) -> Counter[str]:
    if kind != "blocks":
        text = re.sub(KINDS["blocks"], "", text, flags=re.M | re.S)
    if kind == "numbers":
        text = re.sub(KINDS["formulas and code"] + "|" + KINDS["links"], "", text)
    found = re.findall(KINDS[kind], text, re.M | re.S)
    # How often a formula is named is a matter of grammar.
    return Counter(set(found) if kind == "formulas and code" else found)


@pytest.mark.parametrize("language", PAGES)
def test_formulas_are_written_as_github_reads_them(language: str) -> None:
    """Math in backticks is kept from Markdown, but not seen behind a letter or a full-width mark."""
    text = re.sub(KINDS["blocks"], "", TEXTS[language], flags=re.M | re.S)
    begins = list(re.finditer(r"(?:^|(.))\$`([^`]+)`\$(?=(.?))", text, re.S))
    assert len(begins) > 80
    assert {match[1] for match in begins} <= {None, "\n", " ", "("}
    assert "$" not in re.sub(r"\$`[^`]+`\$", "", text)
    assert not any(mark in match[2] for match in begins for mark in ("|", "\\\\", "<", "$"))
    assert all(match[2] == match[2].strip() and not match[3].isdigit() for match in begins)


@pytest.mark.parametrize("language", PAGES)
def test_links_within_a_page_lead_to_its_headings(language: str) -> None:
    headings = re.findall(r"^#+ (.+)$", TEXTS[language], re.M)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"\]\(#([^)]+)\)", TEXTS[language])
    assert len(linked) > 5
    assert set(linked) <= slugs


def claims(n: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """What the prose says about numbers without naming them; another seed could make it untrue."""
    results, flow, start = n["results"], n["flow"], n["start"]
    perplexity = {name: result["perplexity"] for name, result in results.items()}
    yield (
        "counting is worse than any network",
        perplexity["fivegram"] > max(perplexity[x] for x in ("rnn", "lstm", "gru")),
    )
    better = {(model, other): pair["better"] for model, others in n["pairs"].items() for other, pair in others.items()}
    yield "the plain RNN is better than the 5-gram", better["rnn", "5-gram"] == "yes"
    gated_beat = [better.get((gated, other)) for gated in ("lstm", "gru") for other in ("rnn", "5-gram")]
    yield "LSTM and GRU are better than both", gated_beat == ["yes"] * 4
    yield "gates help", perplexity["rnn"] > max(perplexity["lstm"], perplexity["gru"])
    record = json.loads((PROJECT / "recipes/default/metrics.json").read_text())
    seeds = {cell: [record[cell][f"perplexity_seed_{seed}"] for seed in range(1, 6)] for cell in ("lstm", "gru")}
    yield "their intervals overlap", results["gru"]["perplexity_high"] > results["lstm"]["perplexity_low"]
    yield "on the same sentences neither can be told to be better", better["gru", "lstm"] == "cannot be told"
    yield "the worst LSTM is better than the best GRU", max(seeds["lstm"]) < min(seeds["gru"])
    yield "one unit chooses between two words", n["one_unit"]["words"]["1"] == 2
    words = n["one_unit"]["words"]
    yield "and more units among more", words["1"] < words["2"] < min(words["10"], words["100"])
    yield "the models know when a sentence ends", all(e["probability"][-1] > 0.99 for e in n["example"].values())
    yield "many nouns follow `the`", all(e["probability"][1] < 0.1 for e in n["example"].values())
    yield "a long sentence is read, but worse", perplexity["rnn"] < n["long"]["perplexity"] < n["corpus"]["vocabulary"]
    yield "and is longer than any", n["corpus"]["longest"] < n["long"]["words"] > n["corpus"]["vocabulary"]
    yield "looking up is multiplying", n["one_hot"]["difference"] == 0
    yield "the right start knows nothing", abs(start["inverse"]["nats"] - start["uniform"]) < 0.01
    yield "the wrong one saturates", start["inverse"]["saturated"] < 0.01 < 0.9 < start["root"]["saturated"]
    yield "and stays where it is", start["root"]["losses"][-1] > 0.9 * start["root"]["losses"][0]
    yield "while the right one learns", start["inverse"]["losses"][-1] < start["uniform"] - 1
    yield "its gradient explodes", start["root"]["gradient"]["10"] > 100
    yield "all vanish alike at the start", all(4 < cell["decade"] < 6 for cell in flow.values())
    yield "W grows", flow["rnn"]["norm_of_W"]["trained"] > 1.5 * flow["rnn"]["norm_of_W"]["untrained"]
    yield "the GRU keeps most", flow["gru"]["trained"][10] > 2 * flow["lstm"]["trained"][10]
    kept = [flow[name]["trained"][10] for name in ("rnn", "lstm")]
    yield "the LSTM not much more than the plain RNN", kept[0] < kept[1] < 2 * kept[0]
    yield "four steps have most of the gradient", all(cell["4"] > 0.8 for cell in n["truncated"].values())
    yield "less so the better a cell remembers", n["truncated"]["gru"]["4"] < n["truncated"]["rnn"]["4"]
    yield "much of the GRU's state is kept", 0.3 < n["gates"]["gru"]["kept"] < 0.6
    yield "torch's GRU is another model", n["torch_gru"]["theirs"] > 1.05 * n["torch_gru"]["ours"]
    yield "its parameters are those of the formula", results["rnn"]["parameters"] == 2 * 8000 * 100 + 100**2
    C, H, D = n["corpus"]["vocabulary"], n["params"]["hidden_size"], n["params"]["embedding_dim"]
    yield "so are the LSTM's", results["lstm"]["parameters"] == 5 * H * C + 4 * H**2 + 4 * H
    counted = D * C + 3 * H * D + 3 * H**2 + 3 * H + H * C + C
    yield "and the GRU's, with its output bias", results["gru"]["parameters"] == counted


@pytest.mark.parametrize(
    ("claim", "holds"), list(claims(NUMBERS)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_the_prose_says_holds_of_the_numbers(claim: str, holds: bool) -> None:
    assert holds, f"the tutorial says: {claim}; the numbers no longer do, so change the templates in tools/"


@pytest.mark.slow
def test_measuring_again_gives_the_same_numbers() -> None:
    """Where the results lie here as they are committed: after `make repro`."""
    from pipeline.params import load_params
    from tools.lesson import measured
    from tools.tutorial import made_from

    try:
        hashes = made_from()
    except InputError as error:
        (pytest.fail if SOAK else pytest.skip)(f"needs the results of `make repro`: {error}")
    if hashes != CONTENT["made_from"]:
        pytest.skip("needs the committed results in data/")
    again = json.loads(json.dumps(measured(load_params())))
    assert list(leaves(again)) == [
        (keys, pytest.approx(value, rel=0.01) if isinstance(value, float) else value) for keys, value in leaves(NUMBERS)
    ]


def leaves(value: Any, keys: str = "") -> Iterator[tuple[str, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        yield keys, value
    else:
        for key, entry in entries:
            yield from leaves(entry, f"{keys}.{key}")
