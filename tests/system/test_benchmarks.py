"""What the benchmarks' figures mean, and the file they write."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness import from_pairs
from benchmarks.peers import MogrifierLSTM, TutorialRNN
from pipeline.model.mogrifier import run_mogrifier
from tests.conftest import PROJECT


def test_a_ratio_above_one_means_ours_is_better() -> None:
    pairs = [(1.0, 3.0), (1.0, 2.0), (2.0, 4.0), (1.0, 2.0)]  # seconds, ours and theirs
    times = from_pairs("row", "peer", pairs, 0, "ms")
    assert (times.ours, times.theirs, times.ratio) == (1000.0, 2500.0, 2.5)
    speeds = from_pairs("row", "peer", pairs, 100, "tokens/s")
    assert (speeds.ours, speeds.theirs, speeds.ratio) == (100.0, 40.0, 2.5)
    assert from_pairs("row", "peer", [(1.0, 2.0)] * 4, 0, "ms").spread == 0.0


def test_rows_are_written_as_documented(tmp_path: Path) -> None:
    code = "from benchmarks.harness import *; run(lambda: [from_pairs('row', 'peer', [(1.0, 2.0)] * 3, 0, 'ms')])"
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-c", code, "--json", str(file)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "row" in done.stdout
    row = {"name": "row", "peer": "peer", "ours": 1e3, "theirs": 2e3, "unit": "ms", "ratio": 2.0, "spread": 0.0}
    assert json.loads(file.read_text()) == [row]


def test_the_tutorials_network_learns_a_sentence() -> None:
    """A peer that did not do its work would be no peer."""
    network = TutorialRNN(C=12, H=8)
    x_T, y_T = np.array([0, 3, 4, 5]), np.array([3, 4, 5, 1])

    def loss() -> float:
        s, nats = np.zeros(8), 0.0
        for word, target in zip(x_T, y_T, strict=True):
            s = np.tanh(network.U[:, word] + network.W @ s)
            logits = network.V @ s
            nats += np.log(np.exp(logits).sum()) - logits[target]
        return nats

    before = loss()
    # One small step falls by what the gradient promises: the squared norm of it, which the weights' change gives.
    weights = [w.copy() for w in (network.U, network.V, network.W)]
    network.sgd_step(x_T, y_T, 1e-5)
    changed = sum(((w - old) ** 2).sum() for w, old in zip((network.U, network.V, network.W), weights, strict=True))
    assert before - loss() == pytest.approx(changed / 1e-5, rel=1e-2)
    for _ in range(300):
        network.sgd_step(x_T, y_T, 0.1)
    assert loss() < 0.5


@pytest.mark.parametrize("rounds", [2, 5])
def test_the_mogrifier_of_plain_modules_is_the_same_network(rounds: int) -> None:
    T, B, H = 6, 8, 5
    module = MogrifierLSTM(H, rounds).double()
    cell = module.cell

    def ours(weight: torch.Tensor) -> torch.Tensor:
        i, f, g, o = weight.chunk(4)
        return torch.cat((o, i, f, g)).t()

    x_TBH = torch.randn(T, B, H, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    s_NH, _ = run_mogrifier(
        x_TBH.flatten(0, 1),
        (B,) * T,
        ours(cell.weight_ih),
        ours(cell.weight_hh),
        ours(cell.bias_ih + cell.bias_hh),
        [(weight.t(),) for weight in module.rounds.parameters()],
    )
    torch.testing.assert_close(s_NH, module(x_TBH).flatten(0, 1))
