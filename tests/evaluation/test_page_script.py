"""The page in a browser: it is opened, clicked and read, and what it shows is what the files say."""

import re
from typing import TYPE_CHECKING

import pytest

from pipeline.evaluation.results import read_metrics
from pipeline.training.history import read_history
from tests.evaluation.conftest import WORDS, opened, page_on, with_data

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONG = [f"{number:02}-a-name-of-thirty-characters" for number in range(12)]
EVIL = "</script><img src=x onerror=document.title='evil'>"


@pytest.mark.slow
def test_a_person_reads_and_clicks_what_the_files_say(make_looked_at, browser: "Browser") -> None:
    names = ["rnn", "lstm", "gru"]
    folder = make_looked_at(names, [*WORDS[:-1], EVIL])
    text, data = page_on(folder, names)
    assert len(text.encode()) < 2_000_000
    page, errors = opened(browser, folder / "report" / "index.html", viewport={"width": 1200, "height": 900})
    metrics = {name: read_metrics(folder / "evaluation" / name / "metrics.json") for name in names}

    # The forest plot: each model's perplexity, and its point at the right place among the others'.
    shown = page.locator("#forest svg text").all_text_contents()
    for name, of_model in metrics.items():
        ends = f"({of_model['perplexity_low']:.1f}–{of_model['perplexity_high']:.1f})"
        assert any(label.startswith(f"{of_model['perplexity']:.1f} {ends}") for label in shown), (name, shown)
    order = sorted(names, key=lambda name: metrics[name]["perplexity"])
    assert [label for label in shown if label in names] == order

    # The learning curves: a point says its epoch and its perplexity; zooming moves the axis, and back.
    page.locator("#curves details summary").click()
    cells = page.locator("#curves-table td.number").all_text_contents()
    histories = [record for name in names for record in read_history(folder / "models" / name / "history.csv")]
    assert [f"{record.valid_perplexity:.2f}" for record in histories] == cells[2::3]
    ticks = page.locator("#curves-chart svg").inner_html()
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_function("(before) => document.querySelector('#curves-chart svg').innerHTML !== before", arg=ticks)
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.querySelector('#curves-chart').dataset.share === '1'")

    # Samples of another temperature; text with markup in it is text.
    page.locator("#temperature").select_option("0")
    assert "<b>gru</b> at a half" in page.locator("#samples-table").inner_text()
    assert EVIL in page.locator("#units-sentence, #reading, #sentence").all_inner_texts().__str__()
    assert page.title() == "Language models compared"

    # Where a model is better, and the gradients, as tables too.
    page.locator("#where details summary").click()
    assert page.locator("#where-table tbody tr").count() == sum(len(a["rows"]) for a in data["where"]["aspects"])
    assert page.locator("#gradient-charts svg").count() == 3
    assert page.locator("#units-charts canvas").count() == 3
    assert errors == []


@pytest.mark.slow
def test_nothing_overlaps_on_a_phone_with_twelve_cells_of_long_names(make_looked_at, browser: "Browser") -> None:
    folder = make_looked_at(LONG)
    text, _ = page_on(folder, LONG)
    assert len(text.encode()) < 2_000_000
    for scheme in ("light", "dark"):
        page, errors = opened(
            browser, folder / "report" / "index.html", viewport={"width": 360, "height": 800}, color_scheme=scheme
        )
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        boxes = page.evaluate(
            """[...document.querySelectorAll('.chart svg')].map((svg) => [...svg.querySelectorAll('text')]
            .filter((one) => one.textContent && getComputedStyle(one).opacity !== '0').map((one) => {
              const box = one.getBoundingClientRect();
              return [one.textContent, box.left, box.top, box.right, box.bottom]; }))"""
        )
        assert len(boxes) > 8
        for labels in boxes:
            for number, (first, *a) in enumerate(labels):
                for other, *b in labels[number + 1 :]:
                    apart = a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 2 or b[3] <= a[1] + 2
                    assert apart, (first, other)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        assert errors == []
        assert re.search("perplexity", page.locator(".verdict").inner_text())
        page.close()


def test_what_lies_beyond_the_scale_is_told_in_figures(make_looked_at, browser: "Browser") -> None:
    folder = make_looked_at(["lstm"])
    text, data = page_on(folder, ["lstm"])
    row = next(row for row in data["where"]["aspects"][0]["rows"] if row["model"] == "lstm")
    row |= {"ratio": 3.0, "low": 2.5, "high": 3.5}
    (path := folder / "report" / "far.html").write_text(with_data(text, data), encoding="utf-8")
    page, errors = opened(browser, path, viewport={"width": 1200, "height": 900})
    drawn = page.locator("#where-charts svg text").all_text_contents()
    assert "+200.0% (+150.0 to +250.0)" in drawn
    assert errors == []
