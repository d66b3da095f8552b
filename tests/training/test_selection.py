from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.training.selection import best_cell, best_epoch, read_history

HEADER = "epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"


def write_history(folder: Path, name: str, perplexities: list[float]) -> None:
    rows = (f"{epoch},{epoch * 10},0.01,4.5,4.5,{value}\n" for epoch, value in enumerate(perplexities, start=1))
    (folder / name).mkdir()
    (folder / name / "history.csv").write_text(HEADER + "".join(rows))


def test_the_best_is_the_one_with_the_lowest_epoch_anywhere(tmp_path: Path) -> None:
    write_history(tmp_path, "steady", [90.0, 80.0, 70.0])
    write_history(tmp_path, "early", [95.0, 60.5, 75.0])
    assert best_cell(tmp_path, ["steady", "early"]) == "early"
    history = read_history(tmp_path / "early" / "history.csv")
    assert best_epoch(history) == {
        "epoch": 2,
        "steps": 20,
        "learning_rate": 0.01,
        "train_nats": 4.5,
        "valid_nats": 4.5,
        "valid_perplexity": 60.5,
    }


def test_the_first_of_equals_is_the_best(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_history(tmp_path, name, [70.0, 70.0])
    assert best_cell(tmp_path, ["b", "a"]) == "b"
    assert best_epoch(read_history(tmp_path / "b" / "history.csv"))["epoch"] == 1


def test_a_missing_history_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/history\.csv is missing.*dvc repro train@gone"):
        best_cell(tmp_path, ["gone"])


GOOD = HEADER.encode() + b"1,2,3,4,5,6\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER.encode(),
        b"epoch,loss\n1,2\n",
        b"\xff\xfe",
        b"\x00\n1",
        GOOD + b"1,2,3,4,5,x\n",
        GOOD + b"2,3,4,5,6,nan\n",
        GOOD + b"2,3\n",
        GOOD + b"1,2,3,4,5,6,7\n",
    ],
)
def test_a_damaged_history_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rnn").mkdir()
    (tmp_path / "rnn" / "history.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"rnn/history\.csv is no training history.*dvc repro train@rnn"):
        best_cell(tmp_path, ["rnn"])
