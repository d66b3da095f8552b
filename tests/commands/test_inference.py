"""Generate, score, suggest on a small untrained project."""

import math
from contextlib import chdir
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.model.packed import pack
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.text.vocabulary import Vocabulary
from tests.commands.conftest import rnnlm


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


def test_lines_of_several_sentences_get_a_remark(project: Path) -> None:
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


def test_text_that_is_not_utf8_is_refused(project: Path) -> None:
    assert "not UTF-8 (line 1, byte 1)" in rnnlm(project, "score", "-", status=1, stdin=b"a\xff\n")


def test_a_file_that_is_not_there_is_refused(project: Path) -> None:
    assert rnnlm(project, "score", "nothing.txt", status=1).startswith("error: nothing.txt is not a file; ")
