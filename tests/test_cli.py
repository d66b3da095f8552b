"""The `rnnlm` command on a small untrained project."""

import math
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.inference.scoring import several_sentences
from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.text.vocabulary import Vocabulary
from tests.conftest import PROJECT, saved_model, vocabulary_of


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(PROJECT / "params.yaml", folder)
    shutil.copy(PROJECT / "dvc.yaml", folder)
    words = ["the", "cat", "sat", "on", "a", "mat", ".", "n't", "do"]
    vocabulary = vocabulary_of({word: 20 - index for index, word in enumerate(words)}, None, 10)
    vocabulary.save(folder / "data" / "vocabulary.tsv")
    for number, (name, cell) in enumerate(load_params(PROJECT / "params.yaml").cells.items()):
        model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(number))
        save_model(saved_model(model, vocabulary), folder / "data" / "models" / name)
        history = "epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
        history += f"1,10,0.1,2.0,{math.log(9 - number)},{9 - number}\n"
        (folder / "data" / "models" / name / "history.csv").write_text(history)
    return folder


def rnnlm(folder: Path, *arguments: str, status: int = 0, stdin: bytes = b"") -> str:
    """What a command prints, called in this process; of one that fails, the line that it ends with."""
    with patch.dict(os.environ, {"RNNLM_TRACKING": "off"}), chdir(folder):
        done = CliRunner().invoke(app, arguments, input=stdin)
    if status:
        assert isinstance(done.exception, InputError), done.output
        return f"error: {done.exception}\n"  # as pipeline.runtime.stage.run prints it
    assert done.exit_code == 0, done.output
    return done.stdout


def test_score_gives_log_probability_and_tokens_of_each_line_in_order(project: Path) -> None:
    lines = ["The cat sat on a mat.", "", "don't. the cat", "cat"]
    output = rnnlm(project, "score", "-", "--model", "lstm", stdin="\n".join(lines).encode() + b"\n")
    rows = [line.split("\t") for line in output.splitlines()]
    # Tokens and the end: 7 + 1; the empty sentence's end alone; `don't. the cat`, whose period is not at the end of the
    # line, so NLTK leaves it on its word: a line is never split into sentences.
    assert [int(tokens) for _, tokens, _ in rows] == [8, 1, 4, 2]
    assert [int(unknown) for _, _, unknown in rows] == [0, 0, 1, 0]
    from pipeline.model.folder import load_model

    vocabulary = Vocabulary.load(project / "data" / "vocabulary.tsv")
    ids = vocabulary.sentence_ids(["the", "cat", "sat", "on", "a", "mat", "."])
    batch = pack(EncodedSplit.of([ids]), [0])
    expected = -float(load_model(project / "data" / "models" / "lstm").model.score(batch).nats_N.double().sum())
    assert float(rows[0][0]) == pytest.approx(expected, abs=1e-4)


def test_the_default_model_is_the_best_on_validation(project: Path) -> None:
    # The last of `cells`, by the histories above.
    assert rnnlm(project, "suggest", "the cat") == rnnlm(project, "suggest", "the cat", "--model", "gru")
    assert rnnlm(project, "suggest", "the cat") != rnnlm(project, "suggest", "the cat", "--model", "rnn")


def test_suggestions_are_words_with_falling_probabilities(project: Path) -> None:
    rows = [line.split("\t") for line in rnnlm(project, "suggest", "The cat", "--count", "4").splitlines()]
    assert len(rows) == 4
    assert not {"UNKNOWN_TOKEN", "SENTENCE_START", "SENTENCE_END"} & {word for word, _ in rows}
    probabilities = [float(probability) for _, probability in rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_line_of_unknown_words_can_be_charged_for_naming_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens.parquet"
    rows = [("d", "train", ["the", "dog"]), ("d", "test", ["a", "bird", "dog"])]
    columns = dict(zip(("document", "split", "tokens"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns, schema=TOKEN_SCHEMA), tokens)
    monkeypatch.setattr("pipeline.provenance.dvc.current_tokens", lambda: tokens)
    lines = b"qqa qqb qqa\nthe cat\n"

    def scores(*options: str) -> list[float]:
        return [float(line.split("\t")[0]) for line in rnnlm(project, "score", "-", *options, stdin=lines).splitlines()]

    (unknown, known), (shared, same) = scores(), scores("--over-types")
    # dog, bird of the corpus, qqa and qqb of the lines: four words that share one probability.
    assert shared == pytest.approx(unknown - 3 * math.log(4), abs=1e-5)
    assert same == known


def test_words_of_a_corpus_in_another_case_are_not_those_of_the_model(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("lowercase: true", "lowercase: false"))
    try:
        error = rnnlm(project, "score", "-", "--over-types", status=1, stdin=b"the cat\n")
    finally:
        (project / "params.yaml").write_text(text)
    assert "trained with tokenize.lowercase true, params.yaml says false" in error


def test_lines_of_several_sentences_get_one_remark(project: Path) -> None:
    assert several_sentences(["Dr. Smith sat on a mat. The cat did."] * 3 + ["The cat sat.", ""]) == (
        "remark: line 1 holds 2 sentences, and 2 other lines hold several; models learn single sentences, so these "
        "lines look less likely than they are: put each sentence on a line of its own"
    )
    assert several_sentences(["Dr. Smith sat on a mat.", "the cat"]) is None
    lines = b"The cat sat.\nThe cat sat. The cat sat on a mat.\n"
    with chdir(project):
        done = CliRunner().invoke(app, ["score", "-"], input=lines)
    assert "remark: line 2 holds 2 sentences; models" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_generation_is_seeded_and_continues_the_prompt(project: Path) -> None:
    first = rnnlm(project, "generate", "--count", "3", "--prompt", "the cat")
    assert first == rnnlm(project, "generate", "--count", "3", "--prompt", "the cat")
    assert first != rnnlm(project, "generate", "--count", "3", "--prompt", "the cat", "--seed", "2")
    assert all(line.startswith("the cat") for line in first.splitlines())
    assert len(first.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("suggest", "a", "--model", ""), "--model names nothing"),
        (("suggest", "a", "--model", "../rnn"), "../rnn/config.json is missing"),
        (("train", "lstm", "--epochs", "3"), "`dvc repro` runs what is out of date"),
        (("score", "nothing.txt"), "nothing.txt is not a file"),
        (("runs",), "RNNLM_TRACKING=off"),
        (("compare", "champion", "challenger"), "RNNLM_TRACKING=off"),
        (("promote",), "RNNLM_TRACKING=off"),
        (("rollback",), "RNNLM_TRACKING=off"),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(project: Path, arguments: tuple[str, ...], expected: str) -> None:
    error = rnnlm(project, *arguments, status=1)
    assert error.startswith("error: ")
    assert expected in error
    assert len(error.splitlines()) == 1


def test_text_that_is_not_utf8_is_refused(project: Path) -> None:
    assert "not UTF-8 (byte 1)" in rnnlm(project, "score", "-", status=1, stdin=b"a\xff\n")


def outside(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder that no project is around."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_outside_a_project_it_says_so(tmp_path: Path) -> None:
    done = outside(tmp_path, "table")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no dvc.yaml and params.yaml in ")
    assert done.stderr.endswith("run the command inside the project\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("start", ["from pipeline import cli; cli.app = {}; cli.main()", "import stages; ({})()"])
def test_a_terminal_of_another_encoding_gets_escapes(start: str, encoding: str) -> None:
    word = "caf\u00e9 \U0001f600"
    command = [sys.executable, "-c", start.format(f"lambda: print({word!a})")]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True
    )
    assert done.stdout.strip() == word.encode(encoding, "backslashreplace")


def test_the_folder_of_a_model_needs_no_project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    command = ("generate", "--count", "2", "--model", str(project / "data/models/lstm"))
    assert outside(nowhere, *command).stderr.endswith("run the command inside the project, or give --max-length\n")
    assert len(outside(nowhere, *command, "--max-length", "5").stdout.splitlines()) == 2


def test_help_imports_nothing_heavy() -> None:
    script = """if True:
        import sys
        from pipeline.cli import app
        for command in ([], *([command.callback.__name__] for command in app.registered_commands)):
            app([*command, "--help"], standalone_mode=False)
        print(sorted({"torch", "mlflow", "pandas", "nltk", "dvc", "dask", "pyarrow"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage:") > 10
    assert done.stdout.splitlines()[-1] == "[]"
