"""Sentences on the page, in a browser: chosen, pointed at, and walked through by keys."""

import math
from typing import TYPE_CHECKING

from tests.evaluation.conftest import opened, page_on, with_data

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_each_models_five_likeliest_words_are_shown_at_the_word_pointed_at(make_looked_at, browser: "Browser") -> None:
    names = ["rnn", "lstm", "gru"]
    folder = make_looked_at(names)
    _, data = page_on(folder, names)
    page, errors = opened(browser, folder / "report" / "index.html", viewport={"width": 1200, "height": 900})
    sentence = data["sentences"]["list"][3]
    page.locator("#sentence").select_option("3")
    place = len(sentence["words"]) - 2
    assert page.locator(".reading").count() == 4
    page.locator(".reading").nth(2).locator(".word").nth(place).hover()
    panel = page.locator("#expected [data-model=gru]")
    words, nats = data["sentences"]["words"], sentence["nats"][2][place]
    assert f"{nats / math.log(2):.1f} bits" in panel.inner_text()
    best = [words[one] for one in sentence["likeliest"][2][place]]
    assert panel.locator("li > span:first-child").all_text_contents() == best
    page.locator(".reading").nth(0).locator(".word").nth(0).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("[document.activeElement.dataset.row, document.activeElement.dataset.place]")
    assert focused == ["1", "1"]
    bits = sentence["nats"][1][1] / math.log(2)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").endswith(f"{bits:.1f} bits")
    step = sum(bits >= limit for limit in data["surprise"])
    assert f"s{step}" in page.evaluate("document.activeElement.className").split()
    page.get_by_role("button", name="Next").click()
    assert page.locator("#sentence").input_value() == "4"
    assert errors == []


def test_characters_that_turn_text_round_are_named_and_turn_nothing(make_looked_at, browser: "Browser") -> None:
    folder = make_looked_at(["lstm"])
    text, data = page_on(folder, ["lstm"])
    data["sentences"]["list"][0]["words"][:2] = ["\u202e", "evil"]
    (path := folder / "report" / "turned.html").write_text(with_data(text, data), encoding="utf-8")
    page, errors = opened(browser, path, viewport={"width": 1200, "height": 900})
    assert page.locator(".reading").nth(0).locator(".word").all_inner_texts()[:2] == ["U+202E", "evil"]
    assert page.locator("#sentence option").nth(0).inner_text().startswith("U+202E evil")
    assert errors == []
