import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.history import EpochRecord, best_record, write_history
from pipeline.training.selection import best_epoch, read_history
from tests.conftest import PROJECT
from tests.training.conftest import history

numbers = st.floats(1e-300, 1e300)
records = st.builds(EpochRecord, st.integers(1, 99), st.integers(1, 10**9), numbers, numbers, numbers, numbers)


@given(st.lists(records, min_size=1, max_size=5))
def test_numbers_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[EpochRecord]):
    path = tmp_path_factory.getbasetemp() / "history" / "history.csv"
    write_history(path, rows)
    assert read_history(path) == [dataclasses.asdict(row) for row in rows]


def test_the_file_is_a_plain_table(tmp_path: Path):
    rows = [EpochRecord(1, 10, 0.015, 0.1 + 0.2, 1 / 3, math.exp(1 / 3)), EpochRecord(2, 20, 1e-05, 4.0, 3.0, 2e22)]
    write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_bytes() == (
        b"epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
        b"1,10,0.015,0.30000000000000004,0.3333333333333333,1.3956124250860895\n"
        b"2,20,1e-05,4.0,3.0,2e+22\n"
    )


@pytest.mark.parametrize(
    ("valid_nats", "epoch"), [([3.0], 1), ([3, 2, 1], 3), ([3, 1, 2], 2), ([3, 1, 2, 1], 2), ([1, 1, 1], 1)]
)
def test_the_best_is_the_first_of_the_lowest_validation_loss(valid_nats, epoch, tmp_path: Path):
    rows = history(train_nats=list(range(len(valid_nats), 0, -1)), valid_nats=valid_nats)
    assert best_record(rows).epoch == epoch
    # Evaluation, which reads the file, says the same.
    write_history(tmp_path / "history.csv", rows)
    assert best_epoch(read_history(tmp_path / "history.csv"))["epoch"] == epoch


def test_reading_or_following_a_history_needs_no_torch():
    code = "import sys, pipeline.training.history; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
