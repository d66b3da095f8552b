"""Which model and project a command finds, and what it says where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import rnnlm
from tests.conftest import PROJECT


def outside(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder that no project is around."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_the_default_model_is_the_best_on_validation(project: Path) -> None:
    # The last of `cells`, by the histories above.
    assert rnnlm(project, "suggest", "the cat") == rnnlm(project, "suggest", "the cat", "--model", "gru")
    assert rnnlm(project, "suggest", "the cat") != rnnlm(project, "suggest", "the cat", "--model", "rnn")


def test_words_of_a_corpus_in_another_case_are_not_those_of_the_model(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("lowercase: true", "lowercase: false"))
    try:
        error = rnnlm(project, "score", "-", "--over-types", status=1, stdin=b"the cat\n")
    finally:
        (project / "params.yaml").write_text(text)
    assert "trained with tokenize.lowercase true, params.yaml says false" in error


def test_outside_a_project_it_says_so(tmp_path: Path) -> None:
    done = outside(tmp_path, "table")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no dvc.yaml and params.yaml in ")
    assert done.stderr.endswith("run the command inside the project\n")
    assert len(done.stderr.splitlines()) == 1


def test_the_folder_of_a_model_needs_no_project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    command = ("generate", "--count", "2", "--model", str(project / "data/models/lstm"))
    assert outside(nowhere, *command).stderr.endswith("run the command inside the project, or give --max-length\n")
    assert len(outside(nowhere, *command, "--max-length", "5").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("", "--model names nothing"),
        ("../rnn", "--model ../rnn: no such folder"),
        ("data/models/lstn", "--model data/models/lstn: no such folder (did you mean data/models/lstm?)"),
        ("data/models", "data/models/config.json is missing"),
        ("lstn", "no model named 'lstn' in data/models (did you mean lstm?), no such folder"),
        ("chamption", "(did you mean champion?)"),
        ("zzz", "no model named 'zzz' in data/models, no such folder"),
    ],
)
def test_a_model_that_cannot_be_is_refused(project: Path, model: str, expected: str) -> None:
    assert expected in rnnlm(project, "suggest", "a", "--model", model, status=1)


@pytest.mark.parametrize("model", [(), ("--model", "gru")])
def test_before_anything_is_trained_it_says_what_trains(project: Path, tmp_path: Path, model: tuple[str, ...]) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(project / name, tmp_path)
    expected = "error: no model is trained yet: `dvc repro` trains those of params.yaml (rnn, lstm, gru)\n"
    assert rnnlm(tmp_path, "generate", *model, status=1) == expected
