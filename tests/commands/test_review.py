"""Commands that ask and decide, where nothing is tracked; what they do is tested in tests/review/."""

import json
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.commands.conftest import rnnlm


@pytest.mark.parametrize("arguments", [("runs",), ("compare", "champion", "challenger"), ("promote",), ("rollback",)])
def test_without_tracking_there_is_nothing_to_ask(project: Path, arguments: tuple[str, ...]) -> None:
    assert "RNNLM_TRACKING=off" in rnnlm(project, *arguments, status=1)


def test_the_table_is_told_in_json_too(project: Path) -> None:
    told = json.loads(rnnlm(project, "table", "--json"))
    assert told["models"] == [{"model": name, "state": "not evaluated"} for name in ("rnn", "lstm", "gru")]
    assert told["remarks"] == ["`dvc repro` trains and evaluates them, as `make repro` does."]
    assert (told["about"], told["seeds"]) == ([], [])


def test_what_is_unlike_the_lock_is_told_in_json_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = (3, {"data/models/lstm": "is missing"})
    monkeypatch.setattr("pipeline.provenance.verification.outputs_unlike_lock", lambda: found)
    with chdir(project):
        done = CliRunner().invoke(app, ["verify", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"results": 3, "unlike": {"data/models/lstm": "is missing"}}
