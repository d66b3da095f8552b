"""The equations against scalars: one unit a cell, with Python's own exp and tanh."""

import math

import pytest
import torch

from pipeline.model.cells import CELLS, GATES


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


X, S, C = 0.7, -0.3, 0.9
U = {"s": 0.5, "i": 0.4, "f": -0.6, "o": 0.8, "g": 1.1, "r": 0.3, "z": -0.7, "h": 0.9}
W = {"s": -0.2, "i": 0.6, "f": 0.1, "o": -0.5, "g": 0.7, "r": -0.9, "z": 0.2, "h": 0.4}
B = {"s": 0.1, "i": -0.1, "f": 1.0, "o": 0.2, "g": 0.3, "r": 0.5, "z": -0.4, "h": 0.05}


def into(gate: str, state: float = S) -> float:
    return U[gate] * X + W[gate] * state + B[gate]


def by_hand(cell: str) -> list[float]:
    if cell == "rnn":
        return [math.tanh(into("s"))]
    if cell == "lstm":
        c = sigmoid(into("f")) * C + sigmoid(into("i")) * math.tanh(into("g"))
        return [sigmoid(into("o")) * math.tanh(c), c]
    z = sigmoid(into("z"))
    return [(1 - z) * math.tanh(into("h", sigmoid(into("r")) * S)) + z * S]


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_that_of_the_equations(cell: str, one_hot: bool) -> None:
    def row(values: dict[str, float], scale: float = 1) -> torch.Tensor:
        return torch.tensor([[values[gate] * scale for gate in GATES[cell]]], dtype=torch.float64)

    # The row of a word holds U x: here what the number X makes of it.
    x = torch.tensor([0]) if one_hot else torch.tensor([[X]], dtype=torch.float64)
    s, c = (torch.tensor([[value]], dtype=torch.float64) for value in (S, C))
    found = CELLS[cell](x, (s, c) if cell == "lstm" else s, row(U, X if one_hot else 1), row(W), row(B)[0])
    parts = found if isinstance(found, tuple) else (found,)
    assert [part.item() for part in parts] == pytest.approx(by_hand(cell), rel=1e-14)
