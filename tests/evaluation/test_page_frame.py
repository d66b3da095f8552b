"""What the frame lets run and load, and what a copy adds."""

import base64
import hashlib
import re

import pytest

from pipeline.evaluation import page_frame
from pipeline.evaluation.figures import SURPRISE
from pipeline.evaluation.page_frame import page, told_of
from pipeline.evaluation.page_script import SCRIPT


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(page_frame, "vega_scripts", lambda: "vega()")
    data = {"curves": [], "foot": {"commands": ["dvc repro > x"], "hashes": {"a<b": "c&d"}}}
    return page("One & <two>", ["First <b>.", "Second."], data, SURPRISE)


def test_only_the_scripts_of_the_page_may_run_and_nothing_is_loaded(text: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in ("vega()", SCRIPT)]
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'; style-src")
    assert "unsafe-eval" not in policy
    assert re.findall(r"https?://[\w.]+", text) == ["http://www.w3.org"]  # a name, not an address
    assert "</script" not in SCRIPT


def test_sections_without_data_are_absent_and_what_is_said_is_text(text: str) -> None:
    assert re.findall(r"<section id='(\w+)'", text) == ["curves"]
    assert "<h1>One &amp; &lt;two&gt;</h1>\n<p class=verdict>First &lt;b&gt;.</p>\n<p>Second.</p>" in text
    assert "<pre>dvc repro &gt; x</pre>" in text
    assert "<dt>a&lt;b</dt><dd>c&amp;d</dd>" in text


def test_a_copy_says_of_which_run_it_is_at_its_foot(text: str) -> None:
    copy = told_of(text, {"commit": "<abc>"})
    assert "<dt>commit</dt>" in copy
    assert copy.replace("<dl><dt>commit</dt><dd>&lt;abc&gt;</dd></dl>\n", page_frame.FOOT) == text


def test_every_step_of_surprise_has_its_colours_by_day_and_by_night(text: str) -> None:
    for step in range(len(SURPRISE["limits"]) + 1):
        assert f".s{step} {{ background: var(--s{step}); color: var(--t{step}); }}" in text
        assert text.count(f"--s{step}: ") == text.count(f"--t{step}: ") == 2
