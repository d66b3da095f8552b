"""`rnnlm compare A B --html`: two models of different vocabularies on one page."""

import json
import math
import re
from pathlib import Path

import pytest

from pipeline.evaluation import page_frame
from pipeline.review.names import find
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.review.candidates import TYPES, candidate, rnnlm, write_corpus


def test_the_page_says_what_the_test_says_and_charges_for_unknown_words(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page_frame, "vega_scripts", lambda: "")
    write_corpus()
    candidate(project)
    candidate(project, words=TYPES // 4)
    store = connect()
    quarter, whole = (run.info.run_id for run in store.runs())
    done = rnnlm("compare", whole, quarter, "--html", "two.html", "--json")
    test = json.loads(done.stdout)["test"]
    text = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "<p class=verdict>A is better. This compares these two models" in text
    (found,) = re.findall(r"id='data'>(.*?)</script>", text)
    data = json.loads(found)
    a, b = (model["name"] for model in data["models"])
    assert (a[:3], b[:3]) == ("A: ", "B: ")
    assert [model["perplexity"] for model in data["models"]] == [test["perplexity_a"], test["perplexity_b"]]
    shown = data["sentences"]
    for better, worse in ((0, 1), (1, 0)):
        kind = f"{(a, b)[better]} much better than {(a, b)[worse]}"
        (first, *_) = (sentence["nats"] for sentence in shown["list"] if sentence["kind"] == kind)
        assert sum(first[better]) < sum(first[worse])
    for sentence in shown["list"]:
        for place in sentence["unknown"]:
            assert sentence["nats"][1][place] > math.log(TYPES - TYPES // 4)
    assert any(sentence["unknown"] for sentence in shown["list"])
    assert data["foot"]["hashes"]["A, run in MLflow"].endswith(whole)
    assert find(store, whole).info.run_id in text
