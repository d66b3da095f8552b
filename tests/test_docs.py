"""What README and docs/ say: promises name tests, figures are those of the committed results, links lead somewhere."""

import ast
import json
import re
import shlex
import statistics
import struct
import subprocess
import sys
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli import parse_args
from typer import Context
from typer.main import get_group
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.figures import learning_curves
from pipeline.params import at, check_params, flat, put
from pipeline.training.history import read_history
from tests.conftest import PROJECT, SOAK
from tools.records import RECORD_FILE, read_record

README = (PROJECT / "README.md").read_text()
COMMANDS = (PROJECT / "docs" / "command_line.md").read_text()
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), PROJECT / "corpus" / "README.md"])
# How README's table names a model, and where its figures are.
ROWS = {
    "trigram": ("baselines", "trigram"),
    "5-gram": ("baselines", "fivegram"),
    "plain RNN": ("rnn", None),
    "LSTM": ("lstm", None),
    "GRU": ("gru", None),
}
CELLS = ("rnn", "lstm", "gru")


def committed(path: str) -> bytes:
    """A file as the last commit has it: results of another machine or corpus may lie in the working tree."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=PROJECT, capture_output=True)
    if shown.returncode:
        pytest.skip(f"needs the committed results: {path} is not in the last commit")
    return shown.stdout


def metrics_of(folder: str, key: str | None) -> dict[str, Any]:
    metrics = json.loads(committed(f"data/evaluation/{folder}/metrics.json"))
    return metrics if key is None else metrics[key]


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist() -> None:
    promised = [line for line in README.splitlines() if line.startswith("- **")]
    table = re.findall(
        r"^\| (.*?) ?\| `(tests/\S+\.py)::(test_\w+)` \|", (PROJECT / "docs/claims.md").read_text(), re.M
    )
    claims = [claim for claim, _, _ in table if claim]
    assert len(promised) == len(claims) >= 6
    for line, claim in zip(promised, claims, strict=True):
        assert line.startswith(f"- **{claim}")
    for _, path, test in table:
        assert test in functions_of(PROJECT / path), f"{path} has no {test}"


def test_every_test_that_a_document_names_exists() -> None:
    named = {match for path in DOCUMENTS for match in re.findall(r"tests/[\w/]+\.py(?:::\w+)?", path.read_text())}
    assert len(named) > 10
    for name in named:
        path, _, test = name.partition("::")
        assert (PROJECT / path).is_file(), name
        assert not test or test in functions_of(PROJECT / path), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_links_and_paths_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target
    for named in re.findall(r"`((?:pipeline|stages|tests|tools|benchmarks|docs)/[\w/]+(?:\.\w+|/))`", text):
        assert (PROJECT / named).exists(), named


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 130


def test_the_table_shows_the_committed_figures() -> None:
    rows = re.findall(
        r"^\| (trigram|5-gram|plain RNN|LSTM|GRU)\b[^|]*\| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*)\|", README, re.M
    )
    assert [name for name, *_ in rows] == list(ROWS)
    recipe = json.loads((PROJECT / "recipes/default/metrics.json").read_text())
    for name, *shown in rows:
        m = metrics_of(*ROWS[name])
        interval = f"{m['perplexity_low']:.1f} to {m['perplexity_high']:.1f}"
        parameters = f"{m['parameters']:,}" if "parameters" in m else ""
        seeds = (
            ""
            if ROWS[name][1]
            else "{seed_perplexity_mean:.2f} ({seed_perplexity_sd:.2f})".format(**recipe[ROWS[name][0]])
        )
        expected = [f"{m['perplexity']:.1f}", interval, seeds, parameters]
        assert [value.strip() for value in shown] == expected, name
    assert f"{metrics_of('lstm', None)['tokens']:,} test tokens" in README


def test_the_second_table_is_of_records_and_better_than_the_first() -> None:
    rows = re.findall(r"^\| `rnnlm recipe (\S+)` \| .*? \| (.*) \| (.*) \| (.*) \| (.*) \| (.*) \|$", README, re.M)
    found = {}
    for name, *shown in rows:
        record = read_record(PROJECT / "recipes" / name / RECORD_FILE)
        assert record
        found[name] = figures = record.median.best
        interval = f"{figures.test_low:.1f} to {figures.test_high:.1f}"
        adapted = f"{statistics.median_low(record.adapted):.1f}"
        assert shown == [f"{len(record.runs)}", f"{figures.test:.1f}", interval, adapted, f"{record.minutes:.1f}"]
    cells = [metrics_of(*ROWS[cell])["perplexity"] for cell in ("plain RNN", "LSTM", "GRU")]
    assert found["default-6min"].test < 0.95 * min(cells)
    assert len(found) == 2


def printed_commands(page: str) -> list[list[str]]:
    """The words of each command of a page's shell blocks, without comments; each part of a pipe is one."""
    found: list[list[str]] = [[]]
    for block in re.findall(r"^```sh\n(.*?)^```$", (PROJECT / page).read_text(encoding="utf-8"), re.M | re.S):
        text = re.sub(r"(^|\s)# .*$", "", block.replace("\\\n", ""), flags=re.M)
        lexer = shlex.shlex(f"{text}\n", posix=True, punctuation_chars="|&\n")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        for word in lexer:
            if set(word) <= set("|&\n"):
                found.append([])
            else:
                found[-1].append(word)
    return [words for words in found if words]


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", filter(printed_commands, PAGES))
def test_every_command_that_is_printed_exists(page: str) -> None:
    """Programs, targets, files, stages, options and parameters; that they work is in tests/system/."""
    group = get_group(app)
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    for program, *arguments in printed_commands(page):
        match program, *arguments:
            case "rnnlm", name, *rest:
                group.commands[name].make_context(name, rest, parent=Context(group))
            case "dvc", *rest:
                asked = parse_args(rest)
                assert {target.partition("@")[0] for target in getattr(asked, "targets", None) or ()} <= set(stages)
                params = yaml.safe_load((PROJECT / "params.yaml").read_text())
                for change in getattr(asked, "set_param", None) or ():
                    key, _, value = change.lstrip("+").partition("=")
                    assert change.startswith("+") or at(params, key) is not None or key in flat(params), change
                    put(params, key, yaml.safe_load(value))
                check_params(params)
            case "make", target:
                assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), re.M), target
            case "python", "-m", "pytest", *paths:
                assert [path for path in paths if not (PROJECT / path).exists()] == []
            case "python", "-m", module, *_:
                assert (PROJECT / f"{module.replace('.', '/')}.py").is_file(), module
            case "git", "checkout", *paths:
                assert [path for path in paths if not (PROJECT / path).exists()] == []
            case _:
                assert program in ("source", "echo", "export", "curl", "tail", "mlflow"), program


def test_the_picture_is_drawn_from_the_committed_histories(tmp_path: Path) -> None:
    picture = (PROJECT / "docs" / "learning_curves.png").read_bytes()
    assert len(picture) < 120_000
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)
    histories = {}
    for cell in CELLS:
        path = tmp_path / f"{cell}.csv"
        path.write_bytes(committed(f"data/models/{cell}/history.csv"))
        histories[cell] = read_history(path)
    learning_curves(tmp_path / "drawn.png", histories)
    assert (tmp_path / "drawn.png").read_bytes() == picture


def weights_of(cell: str) -> bytes:
    """The model whose hash is committed, where it lies here: after `make repro`."""
    stage = yaml.safe_load(committed("dvc.lock"))["stages"][f"train@{cell}"]
    (md5sum,) = [out["md5"] for out in stage["outs"] if out["path"].endswith("model.safetensors")]
    path = PROJECT / "data/models" / cell / "model.safetensors"
    if not path.is_file() or md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5sum:
        (pytest.fail if SOAK else pytest.skip)(f"needs the model with the committed hash in data/models/{cell}")
    return path.read_bytes()


def test_the_table_has_the_hashes_of_the_committed_models() -> None:
    shown = re.findall(r"`([0-9a-f]{12})\.\.\.`", README)
    assert shown == [sha256(weights_of(cell)).hexdigest()[:12] for cell in CELLS]


def test_the_sentences_are_what_the_command_prints() -> None:
    command = re.search(r"^`rnnlm (generate .+?)`", README, re.M)
    assert command
    expected = README.partition("```text\n")[2].partition("```")[0]
    (best,) = re.findall(r"^\| (.*), 100 units \(best on validation\)", README, re.M)
    weights_of(str(ROWS[best][0]))
    words = [sys.executable, "-c", "from pipeline.cli import main; main()", *command[1].split()]
    assert subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout == expected


def errors_in(first: dict[str, str], references: dict[str, str]) -> int:
    """Words to substitute, insert and delete (Levenshtein 1966)."""
    total = 0
    for name, reference in references.items():
        words, costs = reference.split(), list(range(len(reference.split()) + 1))
        for row, heard in enumerate(first[name].split(), 1):
            corner, costs[0] = costs[0], row
            for column, word in enumerate(words, 1):
                corner, costs[column] = (
                    costs[column],
                    min(costs[column] + 1, costs[column - 1] + 1, corner + (heard != word)),
                )
        total += costs[-1]
    return total


def test_rescoring_the_committed_list_lowers_the_word_errors_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = re.search(r"have (\d+) errors\s+in (\d+) words; after `rnnlm (rescore .+?)` they\s+have (\d+)\.", COMMANDS)
    assert said
    data = PROJECT / "tests/commands/data"
    references = dict(line.split(" ||| ") for line in (data / "references.txt").read_text().splitlines())

    def errors(lists: str) -> int:
        # Of those of an ID, the first has the last word.
        rows = [line.split(" ||| ") for line in reversed(lists.splitlines())]
        return errors_in({row[0]: row[1] for row in rows}, references)

    before = errors((data / "nbest.txt").read_text())
    assert (before, sum(len(text.split()) for text in references.values())) == (int(said[1]), int(said[2]))
    weights_of("lstm")
    monkeypatch.chdir(PROJECT)
    done = CliRunner().invoke(app, said[3].split())
    assert done.exit_code == 0, done.output
    assert errors(done.stdout) == int(said[4]) < before / 2


def test_the_equations_fit_on_one_screen() -> None:
    """All three cells, with their signatures: 36 lines, as many as a small laptop shows."""
    lines = (PROJECT / "pipeline/model/cells.py").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("def rnn("))
    last = next(number for number, line in enumerate(lines) if line.startswith("CELLS"))
    assert last - first <= 36


def test_the_line_for_cron_retrains_on_the_newest_commit(tmp_path: Path) -> None:
    """With a command in place of ours that says where it runs; yesterday left the checkout on the branch of results."""
    (line,) = re.findall(r"^(0 3 \* \* \* .*)$", (PROJECT / "docs/retraining.md").read_text(), re.M)
    command = line.split(maxsplit=5)[5]
    assert "%" not in command  # cron takes it for the end of a line
    origin, checkout = tmp_path / "origin", tmp_path / "checkout"

    def git(folder: Path, *arguments: str) -> str:
        words = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    git(tmp_path, "init", "-q", "-b", "main", str(origin))
    git(origin, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path, "clone", "-q", str(origin), str(checkout))
    git(checkout, "checkout", "-q", "-b", "retrained")
    git(origin, "commit", "-q", "--allow-empty", "-m", "second")
    for folder in (".venv/bin", ".rnnlm"):
        (checkout / folder).mkdir(parents=True)
    program = checkout / ".venv/bin/rnnlm"
    program.write_text('#!/bin/sh\necho "$@ at $(git log -1 --format=%s)"\n')
    program.chmod(0o755)
    subprocess.run(["sh", "-c", command.replace("/srv/rnnlm", str(checkout))], cwd="/", check=True)
    assert (checkout / ".rnnlm/retrain.log").read_text() == "retrain at second\n"
