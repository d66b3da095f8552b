"""What a retraining leaves for people and programs."""

import dataclasses
import html
import json
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from pipeline.retraining.outcome import Judgement, Outcome, Retraining, write_reports
from pipeline.review.conditions import Gate

METRICS = {"perplexity": 12.0, "perplexity_low": 11.0, "perplexity_high": 13.0, "unknown_share": 0.05}
COMPARED = {
    "sentences": 120,
    "tokens": 1100,
    "perplexity_a": 15.0,
    "perplexity_b": 12.0,
    "ratio": 0.8,
    "ratio_low": 0.75,
    "ratio_high": 0.85,
    "better": "B",
    "remarks": ["A remark."],
}


def judged(verdict: Outcome) -> Retraining:
    return Retraining(
        "retrained",
        {"data": ["corpus"]},
        ("train@lstm",),
        trigger="a" * 40,
        before="b" * 40,
        after="c" * 40,
        pushed=True,
        judgement=Judgement(
            verdict,
            ["Because."],
            champion_before="1",
            champion_after="2" if verdict == "promoted" else "1",
            challenger="2",
            cell="lstm",
            metrics={"challenger": METRICS | {"accuracy_top1": float("nan")}, "champion": {"perplexity": 15.0}},
            test=COMPARED,
            gates=(Gate("better", verdict == "promoted", "It | is."),),
        ),
    )


def test_the_report_has_the_verdict_why_what_changed_and_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (tmp_path / name).write_text("earlier=1\n")
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gradient_flow.png").write_text("of an earlier one")
    write_reports(judged("promoted"), tmp_path / "out", [])
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# Retraining: v2 promoted in place of v1\n\nBecause.\n")
    assert "| that of the challenger, divided | 1 | 0.800 (0.750 to 0.850) |" in text
    assert "| 15.00 | 12.00 (11.00 to 13.00) |" in text
    assert "| better | yes | `It \\| is.` |" in text
    assert "A remark." in text
    assert "Out of date: data: corpus\n" in text
    assert "triggered by `aaaaaaaa`; before it, `retrained` was at `bbbbbbbb`; now at `cccccccc`, pushed" in text
    assert not (tmp_path / "out" / "gradient_flow.png").exists()
    content = json.loads((tmp_path / "out" / "retrain.json").read_text())
    assert (content["verdict"], content["champion_before"], content["champion_after"]) == ("promoted", "1", "2")
    assert content["metrics"]["challenger"]["accuracy_top1"] is None
    outputs = (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    assert outputs[:4] == ["earlier=1", "verdict=promoted", "headline=v2 promoted in place of v1", "champion=2"]
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == "earlier=1\n" + text


HOSTILE = [
    "@team, see ![x](http://evil.example/x.png)",
    "<!-- --> </details><script>alert(1)</script>",
    "`` ` ``` @team ```` <b>",
    "ends with a fence ```",
    "```\n@team\n```\n\n# heading",
    "a | b \\| c",
    "www.evil.example and https://evil.example",
    "*bold* _it_ ~~no~~ [link](x) &amp; $x$ #12 GH-12",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_elsewhere_are_shown_and_never_act(tmp_path: Path, text: str) -> None:
    result = judged("kept")
    judgement = dataclasses.replace(result.judgement, reasons=[text], gates=(Gate("better", False, text),))
    judgement = dataclasses.replace(judgement, test=COMPARED | {"remarks": [text]})
    result = dataclasses.replace(
        result, changes={"data": [text]}, ran=(text,), restored=(text,), warm_start=text, judgement=judgement
    )
    write_reports(result, tmp_path, [])
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render((tmp_path / "summary.md").read_text())
    outside = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)
    for acting in ("@", "evil", "<script", "<b>", "<img", "<!--", "</details", "<em>", "<a ", "heading", "#12"):
        assert acting not in outside, page
    assert page.count("<h1>") == 1
    shown = html.unescape(" ".join(re.findall(r"<code>(.*?)</code>", page, flags=re.DOTALL)))
    assert shown.count(" ".join(text.split()).strip("`")[:20].strip()) >= 5


def test_a_long_error_is_cut_with_a_note(tmp_path: Path) -> None:
    result = judged("failed")
    write_reports(dataclasses.replace(result, judgement=Judgement("failed", ["<b>" + "x" * 100_000])), tmp_path, [])
    summary = (tmp_path / "summary.md").read_text()
    assert len(summary) < 3000
    assert "… (99,003 more characters)`" in summary
    assert len(json.loads((tmp_path / "retrain.json").read_text())["reasons"][0]) == 100_003


def test_a_champion_that_stays_is_named(tmp_path: Path) -> None:
    write_reports(judged("kept"), tmp_path, [])
    assert (
        (tmp_path / "report.md").read_text().startswith("# Retraining: not promoted, v1 stays champion\n\nBecause.\n")
    )
    assert "| better | **no** |" in (tmp_path / "report.md").read_text()
