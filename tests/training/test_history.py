import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import LEARNING_CURVES
from pipeline.training.history import (
    EpochRecord,
    best_cell,
    best_epoch,
    read_history,
    remark,
    write_curves,
    write_history,
)
from tests.conftest import PROJECT
from tests.training.conftest import history

numbers = st.floats(1e-300, 1e300)
records = st.builds(EpochRecord, st.integers(1, 99), st.integers(1, 10**9), numbers, numbers, numbers, numbers)


@given(st.lists(records, min_size=1, max_size=5))
def test_numbers_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[EpochRecord]):
    path = tmp_path_factory.getbasetemp() / "history" / "history.csv"
    write_history(path, rows)
    assert read_history(path) == rows


def test_the_file_is_a_plain_table(tmp_path: Path):
    rows = [EpochRecord(1, 10, 0.015, 0.1 + 0.2, 1 / 3, math.exp(1 / 3)), EpochRecord(2, 20, 1e-05, 4.0, 3.0, 2e22)]
    write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_bytes() == (
        b"epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
        b"1,10,0.015,0.30000000000000004,0.3333333333333333,1.3956124250860895\n"
        b"2,20,1e-05,4.0,3.0,2e+22\n"
    )


def test_the_curves_of_all_cells_are_one_table_that_the_chart_of_dvc_colours_by_cell(tmp_path: Path):
    rows = history(train_nats=[3.5, 2.0], valid_nats=[3.0, 2.5])
    write_curves(tmp_path / "history.csv", {"lstm": rows[:1], "wide": rows})
    header, *lines = (tmp_path / "history.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines] == [["lstm", "1"], ["wide", "1"], ["wide", "2"]]
    template = json.loads((PROJECT / ".dvc/plots/cells.json").read_text())
    assert template["encoding"]["color"]["field"] == header.split(",")[0] == "cell"
    ((chart,),) = (entry.values() for entry in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["plots"])
    assert chart["template"] == "cells"
    assert chart["y"] == {f"{LEARNING_CURVES}/history.csv": "valid_perplexity"}
    assert "valid_perplexity" in header.split(",")


@pytest.mark.parametrize(
    ("valid_nats", "epoch"), [([3.0], 1), ([3, 2, 1], 3), ([3, 1, 2], 2), ([3, 1, 2, 1], 2), ([1, 1, 1], 1)]
)
def test_the_best_is_the_first_of_the_lowest_validation_loss(valid_nats: list[float], epoch: int):
    assert best_epoch(history(train_nats=list(range(len(valid_nats), 0, -1)), valid_nats=valid_nats)).epoch == epoch


def test_the_loss_decides_where_perplexities_are_too_large_or_too_close_to_differ(tmp_path: Path):
    close = math.nextafter(0.25, 0.0)
    assert math.exp(close) == math.exp(0.25)
    for before, after, perplexity in ((0.25, close, math.exp(0.25)), (900.0, 800.0, math.inf)):
        rows = [EpochRecord(1, 10, 0.01, 4.5, before, perplexity), EpochRecord(2, 20, 0.01, 4.5, after, perplexity)]
        for name, kept in (("first", rows[:1]), ("both", rows)):
            write_history(tmp_path / name / "history.csv", kept)
        assert best_epoch(read_history(tmp_path / "both" / "history.csv")).epoch == 2
        assert best_cell(tmp_path, ["first", "both"]) == "both"


def test_the_best_cell_is_the_one_with_the_lowest_epoch_anywhere_and_the_first_of_equals(tmp_path: Path):
    for name, losses in {"steady": [4.5, 4.4, 4.3], "early": [4.6, 4.1, 4.4], "same": [4.1, 4.1, 4.1]}.items():
        write_history(tmp_path / name / "history.csv", history(train_nats=[5.0] * 3, valid_nats=losses))
    assert best_cell(tmp_path, ["steady", "early"]) == "early"
    assert best_cell(tmp_path, ["early", "same"]) == "early"
    assert best_cell(tmp_path, ["same", "early"]) == "same"


def test_a_missing_history_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone/history\.csv is missing.*dvc repro train@gone"):
        best_cell(tmp_path, ["gone"])


HEADER = b"epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
GOOD = HEADER + b"1,2,3,4,5,6\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER,
        b"epoch,loss\n1,2\n",
        b"1,2,3,4,5,6\n",
        b"\xff\xfe",
        b"\x00\n1",
        GOOD + b"1,2,3,4,5,x\n",
        GOOD + b"1.5,2,3,4,5,6\n",
        GOOD + b"2,3,4,5,6,nan\n",
        GOOD + b"2,3,4,5,nan,6\n",
        GOOD + b"2,3\n",
        GOOD + b"1,2,3,4,5,6,7\n",
        GOOD + b"1" * 200_000,
    ],
)
def test_a_damaged_history_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "rnn").mkdir()
    (tmp_path / "rnn" / "history.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"rnn/history\.csv is not a training history.*dvc repro train@rnn"):
        best_cell(tmp_path, ["rnn"])


def test_reading_or_following_a_history_needs_no_torch():
    code = "import sys, pipeline.training.history; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


LAST = "the last of {} epochs still lowered the validation perplexity by {}"


@pytest.mark.parametrize(
    ("perplexities", "steps", "expected"),
    [
        ([90, 80, 79.5], 400, None),
        ([90, 80, 81], 400, None),
        ([90], 400, None),
        ([90, 80, 76], 400, LAST.format(3, "5.0%")),
        ([90], 1, "training took only 1 step"),
        ([90, 95], 199, "training took only 199 steps"),
        ([90, 45], 24, f"training took only 24 steps and {LAST.format(2, '50.0%')}"),
    ],
)
def test_a_training_that_could_have_gone_on_says_so(perplexities, steps: int, expected: str | None) -> None:
    last = len(perplexities)
    records = [
        EpochRecord(epoch, steps * epoch // last, 0.01, 5.0, math.log(perplexity), perplexity)
        for epoch, perplexity in enumerate(perplexities, 1)
    ]
    assert remark(records) == (expected and f"{expected}, so more epochs may help")
