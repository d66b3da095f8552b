"""`rnnlm score --html`: one's own text, word by word, as the models of the project saw it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.evaluation import page_frame
from pipeline.inference import word_page
from pipeline.inference.predictor import Predictor
from pipeline.inference.word_page import write_word_page
from pipeline.runtime.errors import InputError
from tests.projects import Project

LINES = ["The cat sees the <b>dog</b>.", "", "The dog."]


@pytest.fixture(autouse=True)
def without_vega(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_frame, "vega_scripts", lambda: "")


def data_of(path: Path) -> dict:
    (found,) = re.findall(r"id='data'>(.*?)</script>", path.read_text(encoding="utf-8"))
    return json.loads(found)


def test_each_line_costs_what_the_model_says_beside_the_model_that_counts(project: Project) -> None:
    predictor = Predictor.load(project.models)
    assert write_word_page(Path("own.html"), LINES, {"lstm": predictor}, "own.txt") is None
    shown = data_of(Path("own.html"))["sentences"]
    assert shown["models"] == ["lstm", "5-gram"]
    tokens = predictor.tokens([line for line in LINES if line])
    assert [sentence["words"] for sentence in shown["list"]] == tokens
    sums = [sum(sentence["nats"][0]) for sentence in shown["list"]]
    assert sums == pytest.approx(predictor.nats(predictor.encode(tokens)), abs=0.1)
    unknown = [[word for place, word in enumerate(s["words"]) if place in s["unknown"]] for s in shown["list"]]
    assert unknown == [["<", "b", ">", "<", "/b", ">"], []]
    assert np.exp(-np.array(shown["list"][0]["likeliest_nats"][1])).sum(axis=1).max() <= 1.02


def test_what_does_not_fit_is_said_and_other_readers_are_left_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, other = Predictor.load(project.models), Predictor.load(project.models)
    other.text = other.text.model_copy(update={"lowercase": False})
    monkeypatch.setattr(word_page, "MOST_SHOWN", 20)
    left = write_word_page(Path("own.html"), LINES, {"lstm": predictor, "gru": other}, "own.txt")
    assert left == "left out: 1 more sentences do not fit; gru reads text otherwise"
    with pytest.raises(InputError, match=r"own\.txt holds no word; give it a sentence per line"):
        write_word_page(Path("own.html"), ["", " "], {"lstm": predictor}, "own.txt")


def test_the_command_takes_all_cells_and_no_other_output(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.commands.inference import app

    (tmp_path / "own.txt").write_text("the cat .\n")
    done = CliRunner().invoke(app, ["score", "own.txt", "--html", "own.html"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == str(tmp_path / "own.html")
    assert data_of(tmp_path / "own.html")["sentences"]["models"] == ["lstm", "5-gram"]
    assert "lines were read" not in done.stderr
    (tmp_path / "own.txt").write_text("the cat .\n" * 3)
    monkeypatch.setattr("pipeline.commands.inference.MOST_LINES", 2)
    cut = CliRunner().invoke(app, ["score", "own.txt", "--html", "own.html"])
    assert "of own.txt only the first 2 lines were read" in cut.stderr
    refused = CliRunner().invoke(app, ["score", "own.txt", "--html", "own.html", "--json"])
    assert "--html goes with --model alone" in str(refused.exception)
