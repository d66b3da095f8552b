"""The whole pipeline on a tiny corpus, in a temporary clone, run the way a user runs it."""

import csv
import importlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT
from tests.system.conftest import CELLS, Clone, forget_models


@pytest.fixture(scope="module")
def done(plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project that has run from scratch, of these tests alone; each leaves it as it found it."""
    return plain.copy(tmp_path_factory.mktemp("done") / "clone")


def test_the_first_run_leaves_what_the_readme_promises(done: Clone) -> None:
    data = done.folder / "data"
    for cell in CELLS:
        metrics = json.loads((data / "evaluation" / cell / "metrics.json").read_text())
        assert metrics["perplexity_low"] <= metrics["perplexity"] <= metrics["perplexity_high"]
        assert 20 < metrics["effective_documents"] <= metrics["documents"] < metrics["sentences"]
        assert 1 < metrics["perplexity"] < 80
        samples = (data / "evaluation" / cell / "samples.txt").read_text()
        assert len(samples.splitlines()) == 5
        assert "UNKNOWN_TOKEN" not in samples
        assert "SENTENCE_START" not in samples
    report = (data / "report" / "report.md").read_text()
    for name in (*CELLS, "trigram"):
        assert name in report
    assert list((data / "report").glob("*.png"))
    assert "perplexity" in done.dvc("metrics", "show")
    table = done.rnnlm("table")
    assert all(cell in table for cell in CELLS)
    suggestions = done.rnnlm("suggest", "The cat", "--count", "4")
    assert re.fullmatch(r"(\S+\t0\.\d+\n){4}", suggestions)


def test_the_plots_page_needs_nothing_from_the_web(done: Clone) -> None:
    done.dvc("plots", "show", "-o", "dvc_plots")
    page = (done.folder / "dvc_plots" / "index.html").read_text()
    assert "window.vegaEmbed=" in page.replace(" ", "")
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    # First of all validation perplexity: each cell's curve, in a colour of its own, with a point an epoch.
    chart = json.loads(re.findall(r"var spec = ({.*?});\n", page, re.DOTALL)[0])
    points = [(point["cell"], point["epoch"]) for point in chart["data"]["values"]]
    assert points == [(cell, epoch) for cell in CELLS for epoch in "12"]
    assert chart["encoding"]["y"]["field"] == "valid_perplexity"
    assert chart["encoding"]["color"]["field"] == "cell"


def test_a_second_repro_runs_nothing_and_git_stays_clean_of_stray_files(done: Clone) -> None:
    assert done.repro() == []
    untracked = [line for line in done.git("status", "--porcelain", "-uall").splitlines() if line.startswith("??")]
    for line in untracked:
        results = r"curves/history\.csv|models/\w+/history\.csv|evaluation/\w+/metrics\.json"
        assert re.fullmatch(rf"\?\? (dvc\.lock|data/({results}))", line), line


def test_data_comes_back_from_the_cache_without_training(done: Clone) -> None:
    before = done.digests()
    shutil.rmtree(done.folder / "data")
    # Outputs that a stage may look at when it runs again are in no run cache.
    assert done.repro() == ["pins"]
    assert done.digests() == before


def test_git_checkout_and_dvc_checkout_bring_data_back(done: Clone) -> None:
    before = done.digests()
    done.git("add", "dvc.lock", "data")
    done.git("commit", "-q", "--allow-empty", "-m", "results")
    shutil.rmtree(done.folder / "data")
    done.git("checkout", "--", "data")
    done.dvc("checkout")
    assert done.digests() == before
    assert done.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_every_command_of_the_readme_works_as_printed(plain: Clone, tmp_path: Path) -> None:
    """The block under "Work with it", `dvc exp run` included, where one cell is trained: its text is ready."""
    clone = plain.copy(tmp_path / "clone", tracking=True)
    forget_models(clone)
    clone.change(cells={"lstm": {"cell": "lstm"}})
    assert clone.repro() == ["report"]  # the rest is in the run cache
    clone.call("sync")
    block = (PROJECT / "README.md").read_text().partition("## Work with it")[2].partition("### ")[0]
    commands = re.findall(r"^(?:dvc|rnnlm) .+?(?= *#|$)", block, re.MULTILINE)
    assert len(commands) >= 10
    before = yaml.safe_load((clone.folder / "params.yaml").read_text())
    clone.git("add", "dvc.lock", "data", "params.yaml")
    clone.git("commit", "-q", "-m", "results")
    (clone.folder / "sentences.txt").write_text("The cat sees fish.\nNobody likes you!\n")
    printed = {}
    for command in commands:
        if command.startswith("dvc exp run"):
            command += " --name changed"  # else DVC thinks one up
        if command == "rnnlm rollback":
            assert "nothing to go back to" in clone.fails(*shlex.split(command))  # the first champion is the only one
            continue
        program, *arguments = shlex.split(command)
        here = program == "rnnlm" and arguments[0] != "reproduce"  # which hands its own stderr to dvc
        printed[command] = clone.call(*arguments) if here else clone.run(program, *arguments)
        if command.startswith("dvc exp run"):
            assert yaml.safe_load((clone.folder / "params.yaml").read_text()) != before
            # Another size changes nothing of the text.
            ran = re.findall(r"^Running stage '(.+)'", printed[command], re.MULTILINE)
            assert ran == ["train@lstm", "evaluate@lstm", "report"]
            for name in ("hidden_size", "perplexity"):
                assert name in clone.dvc("exp", "diff", "HEAD", "changed")
            assert "perplexity" in clone.dvc("metrics", "diff")
            clone.git("checkout", "--", ".")
            clone.dvc("checkout")
    assert len(printed["rnnlm generate --count 5"].splitlines()) == 5
    assert re.fullmatch(r"(-\d+\.\d+\t\d+\t\d+\n){2}", printed["rnnlm score sentences.txt"])
    assert "changed" in next(text for command, text in printed.items() if command.startswith("dvc exp show"))
    assert "challenger, champion" in clone.call("runs")
    assert "promoted" in printed["rnnlm promote"]
    assert "cannot be told apart" in printed["rnnlm compare champion challenger"]  # they are the same
    assert yaml.safe_load((clone.folder / "params.yaml").read_text()) == before
    assert clone.repro() == []


@pytest.fixture
def copy(plain: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A copy of a project that has run, in which a stage may be called without a process of its own."""
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    clone = plain.copy(tmp_path / "copy")
    monkeypatch.chdir(clone.folder)
    return clone


def test_a_new_row_reruns_the_pipeline_and_keeps_old_documents_in_their_splits(copy: Clone) -> None:
    import pyarrow.parquet as parquet

    path = copy.folder / "corpus" / "comments.csv"
    original = path.read_bytes()
    tokens = copy.folder / "data" / "tokens" / "sentences.parquet"

    def splits() -> dict[str, str]:
        table = parquet.read_table(tokens)
        return dict(zip(table["document"].to_pylist(), table["split"].to_pylist(), strict=True))

    before = splits()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["A new day brings the old man bread. Nobody minds it."])
    ran = copy.repro("vocabulary")
    assert ran == ["download", "tokenize", "vocabulary"]
    after = splits()
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
    path.write_bytes(original)
    assert copy.repro("vocabulary") == []


BAD: list[tuple[dict[str, object], str, str]] = [
    ({"train__epochz": 3}, "train rnn", "train.epochz: unknown key"),
    ({"model__dropout": 1.5}, "train rnn", "model.dropout: Input should be less than 1, got 1.5"),
    ({"vocabulary__size": 3}, "vocabulary", "vocabulary"),
    ({"download__path": "corpus/nothing.csv"}, "download", "nothing.csv"),
    ({"download__text_column": "text"}, "download", "column"),
    ({"tokenize__language": "klingon"}, "tokenize", "klingon"),
    ({"tokenize__splits": {"train": 1, "valid": 1e-9, "test": 1}}, "tokenize", "valid"),
]


def refusal(monkeypatch: pytest.MonkeyPatch, stage: str) -> str:
    """What a stage, called in this process, says of what it cannot work with."""
    name, *arguments = stage.split()
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(InputError) as refused:
        getattr(importlib.import_module(f"stages.{name}"), name)()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_bad_parameters_are_refused_in_one_clear_line_and_change_nothing(
    copy: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy.folder / "params.yaml"
    original = path.read_text()
    for changes, stage, expected in BAD:
        copy.change(**changes)
        assert expected in refusal(monkeypatch, stage), changes
        path.write_text(original)
    # And so a user sees it.
    copy.change(**BAD[0][0])
    error = copy.fails("dvc", "repro")
    assert next(line for line in error.splitlines() if "train.epochz" in line).startswith("error: params.yaml: ")
    path.write_text(original)
    assert copy.repro() == []


BAD_FILES = [
    ("empty.csv", b"body\n\n  \n", "empty corpus"),
    ("latin.csv", "body\nnaïve\n".encode("latin-1"), "line 2 (byte 7): not UTF-8"),
    ("cut.jsonl", b'{"body": "a line."}\n{"body": "half a', "line 2: not valid JSON"),
]


def test_a_bad_corpus_is_refused_in_one_clear_line_and_leaves_no_half_file(
    copy: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.digests()
    for name, content, expected in BAD_FILES:
        (tmp_path / name).write_bytes(content)
        copy.change(download__path=str(tmp_path / name))
        line = refusal(monkeypatch, "download")
        assert name in line
        assert expected in line
        assert copy.digests() == before
