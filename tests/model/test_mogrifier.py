"""The Mogrifier: the paper in NumPy, one step in front of cells.py, and the fast code, in float64."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.cells import lstm
from pipeline.model.folder import load_model, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.model.mogrifier import mogrify, run_mogrifier
from pipeline.model.packed import steps_and_sequences
from tests.conftest import model_params, saved_model
from tests.model import reference
from tests.model.test_language_model import random_batch


class Case:
    """Random weights, inputs and initial states; every tensor but the factor on states wants its gradient."""

    def __init__(self, lengths, X, H, rounds, rank, bias, state, kept, seed) -> None:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator).requires_grad_()

        lengths = sorted(lengths, reverse=True)
        self.sizes = tuple(sum(n > t for n in lengths) for t in range(lengths[0]))
        N, B = sum(lengths), len(lengths)
        self.x, self.U, self.W = random(N, X), random(X, 4 * H), random(H, 4 * H)
        self.biases = [random(4 * H)] if bias else []
        self.states = [random(B, H), random(B, H)] if state else []
        self.kept = random(B, H).detach() if kept else None
        between = [] if rank is None else [rank]
        widths = [(H, *between, X) if k % 2 == 0 else (X, *between, H) for k in range(rounds)]
        self.rounds = [[random(*shape) for shape in pairwise(widths_)] for widths_ in widths]
        self.weights = [random(N, H).detach(), random(B, H).detach(), random(B, H).detach()]

    def tensors(self) -> list[torch.Tensor]:
        factors = [factor for matrices in self.rounds for factor in matrices]
        return [self.x, self.U, self.W, *self.biases, *self.states, *factors]

    def fast(self) -> list[torch.Tensor]:
        b, state = self.biases[0] if self.biases else None, tuple(self.states) or None
        s_NH, last = run_mogrifier(self.x, self.sizes, self.U, self.W, b, self.rounds, state, self.kept)  # pyrefly: ignore[bad-argument-type]
        return [s_NH, *last]

    def readable(self) -> list[torch.Tensor]:
        """Each sequence by itself, one step after another, through cells.py."""
        sequence_N, rows, last = steps_and_sequences(self.sizes)[1], {}, []
        for b in range(self.sizes[0]):
            zero = self.W.new_zeros(1, len(self.W))
            s, c = (part[b : b + 1] for part in self.states or [zero.expand(self.sizes[0], -1)] * 2)
            for n in np.flatnonzero(sequence_N == b):
                read = s if self.kept is None else s * self.kept[b]
                inputs = mogrify(self.x[n : n + 1], read, self.rounds)
                s, c = lstm(inputs[0], (inputs[1], c), self.U, self.W, self.biases[0] if self.biases else None)
                rows[n] = s
            last.append((s, c))
        return [torch.cat([rows[n] for n in range(len(rows))]), *(torch.cat(p) for p in zip(*last, strict=True))]

    def gradients(self, results: list[torch.Tensor], counts: list[bool]) -> list[torch.Tensor]:
        kept = [(r * w).sum() for r, w, count in zip(results, self.weights, counts, strict=True) if count]
        return [*torch.autograd.grad(sum(kept, torch.zeros(())), self.tensors(), materialize_grads=True)]


cases = st.builds(
    Case,
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    X=st.integers(1, 4),
    H=st.integers(1, 4),
    rounds=st.integers(1, 5),
    rank=st.sampled_from([None, 1, 2]),
    bias=st.booleans(),
    state=st.booleans(),
    kept=st.booleans(),
    seed=st.integers(0, 1000),
)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from([[True, True, True], [True, False, False], [False, False, True]]))
def test_values_and_every_gradient_equal_the_readable_cell(case: Case, counts: list[bool]) -> None:
    fast, readable = case.fast(), case.readable()
    torch.testing.assert_close(fast, readable, rtol=1e-12, atol=1e-12)
    ours, theirs = case.gradients(fast, counts), case.gradients(readable, counts)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rounds", [1, 4, 5])
def test_rounds_equal_a_transcription_of_the_paper(rounds: int) -> None:
    """h_prev and x as columns; x^i = 2 sigma(Q^i h^{i-1}) * x^{i-2} for odd i, h^i = 2 sigma(R^i x^{i-1}) * h^{i-2}."""
    generator = np.random.default_rng(1)
    x, h = {-1: generator.normal(size=3)}, {0: generator.normal(size=4)}
    Q = {i: generator.normal(size=(3, 4)) for i in range(1, rounds + 1, 2)}
    R = {i: generator.normal(size=(4, 3)) for i in range(2, rounds + 1, 2)}
    matrices = [[torch.from_numpy((Q if i % 2 else R)[i].T.copy())] for i in range(1, rounds + 1)]
    found = mogrify(torch.from_numpy(x[-1])[None], torch.from_numpy(h[0])[None], matrices)
    for i in range(1, rounds + 1):
        if i % 2:
            x[i] = 2 * reference.sigma(Q[i] @ h[i - 1]) * x[i - 2]
        else:
            h[i] = 2 * reference.sigma(R[i] @ x[i - 1]) * h[i - 2]
    np.testing.assert_allclose(found[0][0], x[max(x)], rtol=1e-12)
    np.testing.assert_allclose(found[1][0], h[max(h)], rtol=1e-12)


SHAPES: list[dict[str, Any]] = [
    {"embedding_dim": 7, "mogrifier_rounds": 5},
    {
        "embedding_dim": 12,
        "layers": 2,
        "lower_sizes": [9],
        "tie_weights": True,
        "mogrifier_rounds": 4,
        "mogrifier_rank": 3,
    },
]


def build(**shape: Any) -> LanguageModel:
    return LanguageModel(model_params(**{"weight_init": 0.5, **shape}), 30, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_saved_model_is_read_whole_and_word_by_word_alike(shape: dict[str, Any], tmp_path: Path) -> None:
    save_model(saved_model(build(**shape)), tmp_path)
    model, batch, state = load_model(tmp_path).model, random_batch(1, 12, 30), None
    nats_N = build(**shape).score(batch).nats_N
    for n in range(len(batch.x_N)):
        logits_BC, state = model.next_logits(batch.x_N[n : n + 1], state)
        nats = torch.nn.functional.cross_entropy(logits_BC, batch.y_N[n : n + 1])
        assert nats.item() == pytest.approx(nats_N[n].item(), rel=1e-4)
    without = LanguageModel(model_params(**{**shape, "mogrifier_rounds": 0, "mogrifier_rank": None}), 30)
    without.load_state_dict({name: weight for name, weight in model.state_dict().items() if ".M." not in name})
    assert not torch.allclose(without.score(batch).nats_N, nats_N, atol=1e-3)


def test_its_size_is_that_of_the_lstm_and_its_matrices_within_their_bounds() -> None:
    plain, whole = build(embedding_dim=7), build(**SHAPES[0], weight_init=None)
    assert whole.parameter_count() - plain.parameter_count() == 5 * 7 * 12
    bounds = {name: weight.abs().max().item() for name, weight in whole.named_parameters() if ".M." in name}
    assert [*bounds] == [f"layers.0.M.{k}" for k in range(5)]
    for k, largest in enumerate(bounds.values()):
        bound = 1 / math.sqrt((12, 7)[k % 2])
        assert bound * 0.9 < largest <= bound
    low = build(**SHAPES[1])
    assert [tuple(factor.shape) for factor in low.layers[0].M[:4]] == [(9, 3), (3, 12), (12, 3), (3, 9)]  # pyrefly: ignore[bad-index]
