"""The winner in params.yaml: all other lines stay as they are."""

import difflib
import shutil
from pathlib import Path

import pytest

from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.tuning.winner import require_free, write_cell
from tests.conftest import PROJECT

ENTRY = {"epochs": 3, "cell": "gru", "embedding_dim": None, "learning_rate": 0.0087, "betas": [0.9, 0.99]}


@pytest.fixture(autouse=True)
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def changed(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def test_only_the_entry_is_added_and_comments_stay(params: Path) -> None:
    before = params.read_text()
    assert write_cell("tuned", ENTRY, "why")
    written = params.read_text()
    added = changed(before, written)
    assert [line[0] for line in added] == ["+"] * len(added)
    assert added[:5] == [
        "+  tuned: # why",
        "+    epochs: 3",
        "+    cell: gru",
        "+    embedding_dim: null",
        "+    learning_rate: 0.0087",
    ]
    assert load_params().cell("tuned").model.cell == "gru"
    assert not write_cell("tuned", ENTRY, "why")
    assert params.read_text() == written


def test_a_later_winner_takes_the_place_of_an_earlier_one(params: Path) -> None:
    write_cell("tuned", ENTRY, "the first")
    first = params.read_text()
    write_cell("tuned", {"cell": "lstm", "epochs": 4}, "the second")
    assert [line[1:].strip() for line in changed(first, params.read_text()) if line[0] == "+"] == [
        "tuned: # the second",
        "cell: lstm",
        "epochs: 4",
    ] or load_params().cell("tuned").train.epochs == 4
    assert "the first" not in params.read_text()


def test_an_entry_that_no_sweep_wrote_is_not_touched(params: Path) -> None:
    before = params.read_text()
    with pytest.raises(InputError, match="has a cell gru that is not this sweep's; `--write NAME` takes another name"):
        require_free("gru", lambda entry: entry == ENTRY)
    require_free("gru", lambda entry: entry["cell"] == "gru")
    require_free("tuned", lambda entry: False)
    with pytest.raises(InputError, match="'no name' is not a usable name"):
        require_free("no name", lambda entry: False)
    with pytest.raises(InputError, match=r"cells\.tuned: epochs: .*greater than or equal to 1, got 0"):
        write_cell("tuned", {"epochs": 0}, "why")
    assert params.read_text() == before
