"""Generate, score, suggest on a small untrained project."""

import json
import math
import os
import select
import sys
from contextlib import chdir
from pathlib import Path
from threading import Thread

import numpy as np
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


def test_a_pipe_is_answered_line_by_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stdin, typed), (seen, stdout) = os.pipe(), os.pipe()
    command = ["score", "-", "--model", str(project / "data/models/lstm")]
    with os.fdopen(stdin) as source, os.fdopen(stdout, "w") as out:
        monkeypatch.setattr(sys, "stdin", source)
        monkeypatch.setattr(sys, "stdout", out)
        scoring = Thread(target=app, args=[command], kwargs={"standalone_mode": False})
        scoring.start()
        try:
            for line in (b"the cat\n", b"a mat .\n"):
                os.write(typed, line)
                assert select.select([seen], [], [], 60)[0], "no answer"
                assert len(os.read(seen, 1000).splitlines()) == 1
        finally:
            os.close(typed)
            scoring.join()
    os.close(seen)


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
    assert "not UTF-8 (line 1, its byte 2)" in rnnlm(project, "score", "-", status=1, stdin=b"a\xff\n")


def test_a_file_that_is_not_there_is_refused(project: Path) -> None:
    assert rnnlm(project, "score", "nothing.txt", status=1).startswith("error: nothing.txt is not a file; ")


def test_each_token_has_a_row_that_joins_with_the_words_of_its_line(project: Path) -> None:
    lines = b"The cat.\n\ndon't qqa\n"
    header, *rows = (line.split("\t") for line in rnnlm(project, "score", "-", "--per-word", stdin=lines).splitlines())
    assert header == ["line", "word", "text", "token", "nats", "bits", "rank", "unknown"]
    assert [(int(line), int(word), text, token, unknown) for line, word, text, token, _, _, _, unknown in rows] == [
        (1, 1, "The", "the", "0"),
        (1, 2, "cat.", "cat", "0"),
        (1, 2, "cat.", ".", "0"),
        (1, 0, "", "SENTENCE_END", "0"),
        (2, 0, "", "SENTENCE_END", "0"),
        (3, 1, "don't", "do", "0"),
        (3, 1, "don't", "n't", "0"),
        (3, 2, "qqa", "qqa", "1"),
        (3, 0, "", "SENTENCE_END", "0"),
    ]
    told = [json.loads(line) for line in rnnlm(project, "score", "-", "--json", stdin=lines).splitlines()]
    assert [line["tokens"] for line in told] == [4, 1, 4]
    for line in told:
        own = [float(row[4]) for row in rows if int(row[0]) == line["line"]]
        assert sum(own) == pytest.approx(-line["log_probability"], abs=1e-5)
    words = [json.loads(row) for row in rnnlm(project, "score", "-", "--per-word", "--json", stdin=lines).splitlines()]
    assert [[str(int(word["unknown"])), word["token"]] for word in words] == [[row[7], row[3]] for row in rows]


def test_each_beginning_gets_its_sentences(project: Path) -> None:
    beginnings = ("--prompt", "a mat", "--prompt", "do", "--count", "2", "--top-p", "0.5", "--top-k", "3")
    told = [json.loads(line) for line in rnnlm(project, "generate", *beginnings, "--json").splitlines()]
    assert [sentence["prompt"] for sentence in told] == ["a mat", "a mat", "do", "do"]
    assert all(sentence["sentence"].startswith(sentence["prompt"]) for sentence in told)
    assert [sentence["sentence"] for sentence in told] == rnnlm(project, "generate", *beginnings).splitlines()


def test_words_are_told_in_json_too(project: Path) -> None:
    for command, figure in (("suggest", "probability"), ("neighbours", "similarity")):
        rows = [line.split("\t") for line in rnnlm(project, command, "cat", "--count", "3").splitlines()]
        told = json.loads(rnnlm(project, command, "cat", "--count", "3", "--json"))
        assert [[word["word"], f"{word[figure]:.4f}"] for word in told] == rows
        assert len(rows) == 3


def test_a_list_is_rescored_by_the_words_that_it_does_not_know_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.commands.inference.unknown_types_for", lambda _: np.empty(0, np.uint64))
    lists = b"u ||| the qqa ||| ||| -1\nu ||| the qqb cat ||| ||| -1.5\n"

    def scores(*options: str) -> dict[str, float]:
        told = rnnlm(project, "rescore", "-", "--weight", "1", "--json", *options, stdin=lists).splitlines()
        return {row["text"]: row["score"] for row in map(json.loads, told)}

    plain, shared = scores(), scores("--over-types")
    assert {text: plain[text] - shared[text] for text in plain} == pytest.approx(dict.fromkeys(plain, math.log(2)))
    kept = rnnlm(project, "rescore", "-", "--weight", "0", stdin=lists).splitlines()
    assert [line.split(" ||| ")[1::2] for line in kept] == [["the qqa", "-1.000000"], ["the qqb cat", "-1.500000"]]
    error = rnnlm(project, "rescore", "-", "--weight", "1", status=1, stdin=b"the cat\n")
    assert error.startswith("error: standard input, line 1: 1 fields; a line of an n-best list is `ID ||| hypothesis")


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "command", [("rescore", "-", "--weight"), ("generate", "--temperature"), ("generate", "--top-p")]
)
def test_what_is_no_finite_number_is_out_of_range(command: tuple[str, ...], number: str) -> None:
    done = CliRunner().invoke(app, [*command, number], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert f"Invalid value for '{command[-1]}'" in done.stderr


def test_play_needs_a_terminal_and_begins_with_the_best_of_the_models(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "`rnnlm play` needs a terminal; `rnnlm suggest TEXT` prints" in rnnlm(project, "play", status=1)
    played = []
    monkeypatch.setattr("pipeline.inference.play.play", lambda names, load: played.append((names, load)))
    monkeypatch.setattr("pipeline.commands.inference.is_terminal", lambda: True)
    rnnlm(project, "play")
    rnnlm(project, "play", "--model", "lstm")
    (best, load), (lstm, _) = played
    assert (best, lstm) == (["gru", "lstm", "rnn"], ["lstm", "gru", "rnn"])
    with chdir(project):
        assert load("rnn").model.params.cell == "rnn"
