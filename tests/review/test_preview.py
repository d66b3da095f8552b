"""`rnnlm corpus`: what would be read, before anything is trained."""

import csv
import gzip
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.review import preview
from pipeline.runtime.errors import InputError
from tests.conftest import DURATION, PROJECT

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


@pytest.fixture
def comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without data, and a CSV of 200 comments of two sentences, two of them blank."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "constraints.txt"):
        shutil.copy(PROJECT / name, name)
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["model"]["hidden_size"] = 4
    content["cells"] = {"small": {"cell": "gru", "seeds": 2}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with Path("comments.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["said"])
        for number in range(200):
            words = [WORDS[(number + place * place) % 10] for place in range(number % 7 + 2)]
            text = f"Comment {number} has\nlines. It says {number} {' '.join(words)}."
            rows.writerow([text if number > 1 else " "])
    return tmp_path / "comments.csv"


def test_it_shows_what_the_stages_would_read_and_changes_nothing(comments: Path) -> None:
    before = sorted(path.name for path in comments.parent.iterdir())
    done = CliRunner().invoke(app, ["corpus", "comments.csv", "--text-column", "said"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in comments.parent.iterdir()) == before
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\n  Comment 2 has lines. It says 2 gamma delta eta beta.\n" in done.stdout
    assert "\n  it says 2 gamma delta eta beta .\n" in done.stdout
    assert "\nrows: 200 = 198 documents + 2 blank\nsentences: 396 = 396 kept + 0 there before\n" in done.stdout
    splits = re.findall(
        r"^(\w+): ([\d,]+) sentences, [\d,]+ tokens, [\d.]+% of them unknown", done.stdout, re.MULTILINE
    )
    assert [split for split, _ in splits] == ["train", "valid", "test"]
    assert sum(int(sentences) for _, sentences in splits) == 396
    assert re.search(
        rf"^training small: about {DURATION} \(10 epochs, 128 tokens a batch, .* 0.01\)$", done.stdout, re.MULTILINE
    )


def test_of_a_large_corpus_it_shows_a_part_and_says_so(comments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "PREVIEW_CHARACTERS", 5000)
    arguments = ["corpus", "comments.csv", "--text-column", "said"]
    said = CliRunner().invoke(app, arguments).stdout
    assert (
        share := re.search(r"The corpus is large: what follows is about its first part, (\d+)% of its text\.", said)
    )
    assert 30 < int(share[1]) < 60
    monkeypatch.setattr(preview, "PREVIEW_SECONDS", -1.0)
    with comments.open("a") as file:  # far more than is read at a time
        file.write("".join(f"Comment {number} has a good ending.\n" for number in range(20_000)))
    said = CliRunner().invoke(app, arguments).stdout
    assert (share := re.search(r"first part, (\d+)% of its text by an estimate from the bytes that are left\.", said))
    assert int(share[1]) == round(100 * 5000 / comments.stat().st_size)
    # As many tokens as the whole has decide what `auto` is, not those of the part.
    estimate = rf"^training small: an estimated {DURATION} \(5 epochs, 256 tokens a batch"
    assert re.search(estimate, said, re.MULTILINE), said
    Path("comments.csv.gz").write_bytes(gzip.compress(comments.read_bytes()))  # of which nobody knows what it holds
    said = CliRunner().invoke(app, ["corpus", "comments.csv.gz", *arguments[2:]]).stdout
    assert "first part, more than can be read in seconds." in said
    assert "training small: more than " in said


def test_an_empty_split_is_told_after_what_was_read(comments: Path) -> None:
    comments.write_text('said\n"One."\n"One."\n')
    done = CliRunner().invoke(app, ["corpus", "comments.csv", "--text-column", "said"])
    assert "\n  One.\n" in done.stdout
    assert isinstance(done.exception, InputError)
    assert "one distinct document, given 2 times, is empty" in str(done.exception)
