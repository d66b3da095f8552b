from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluation import gradient_flow
from pipeline.evaluation.gradient_flow import (
    gradient_norms,
    plain_rnn_norms,
    write_gradient_norms,
    write_plain_rnn_norms,
)


def loss_after_a_nudge(model, ids: list[int], lags: int, k: int, nudge: torch.Tensor) -> float:
    """Loss after `lags + 1` words where the state of the last layer, k words earlier, is `nudge` larger.

    Of an LSTM the first 8 numbers of `nudge` are for s, the others for c.
    """
    logits = state = None
    for step in range(lags + 1):
        logits, state = model.next_logits(torch.tensor([ids[step]]), state)
        if step == lags - k:
            s = state[-1]
            state[-1] = (s[0] + nudge[:8], s[1] + nudge[8:]) if isinstance(s, tuple) else s + nudge
            if k == 0:
                s = state[-1][0] if isinstance(state[-1], tuple) else state[-1]
                logits = s @ model.output_weight.t() + model.c
    assert logits is not None
    return -logits[0].log_softmax(0)[ids[lags + 1]].item()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_norms_are_those_of_finite_differences(cell, layers, make_model, encode, monkeypatch) -> None:
    monkeypatch.setattr(gradient_flow, "LAGS", 4)
    model = make_model(cell, layers=layers).double()
    split = encode([[5, 9, 3, 20, 7, 11], [2, 4, 6, 8, 10]])
    norms = gradient_norms(model, split)
    step = 1e-6
    for k in range(5):
        expected = []
        for start in split.offsets[:2]:
            ids = split.ids[start : start + 6].astype(int).tolist()
            nudges = step * torch.eye(16 if cell == "lstm" else 8, dtype=torch.float64)
            slopes = [
                (loss_after_a_nudge(model, ids, 4, k, n) - loss_after_a_nudge(model, ids, 4, k, -n)) / (2 * step)
                for n in nudges
            ]
            expected.append(np.linalg.norm(slopes))
        assert norms[k] == pytest.approx(np.mean(expected), rel=1e-5)


def test_only_sentences_with_enough_words_are_measured_and_short_ones_shorten_the_lags(make_model, encode) -> None:
    generator = np.random.default_rng(0)
    model = make_model()
    long = [generator.integers(2, 22, 40).tolist() for _ in range(20)]
    short = [generator.integers(2, 22, 9).tolist() for _ in range(30)]
    np.testing.assert_allclose(gradient_norms(model, encode(short + long)), gradient_norms(model, encode(long)))
    assert len(gradient_norms(model, encode(short + long))) == 31
    # A sentence of 9 words has 10 targets, so the last one has 9 states before its own.
    assert len(gradient_norms(model, encode(short + long[:19]))) == 10
    assert len(gradient_norms(model, encode([[3]]))) == 2


def test_a_plain_rnn_with_small_recurrent_weights_forgets_geometrically(make_model, encode) -> None:
    model = make_model("rnn")
    with torch.no_grad():
        model.layers[0].W.copy_(0.1 * torch.eye(8))
    norms = gradient_norms(model, encode([list(range(2, 22))] * 20))
    assert (norms[1:] <= 0.1 * norms[:-1] * 1.0001).all()


def test_what_an_lstm_carries_along_in_c_alone_is_not_forgotten(make_model, encode) -> None:
    model = make_model("lstm")
    with torch.no_grad():
        model.layers[0].W.zero_()  # nothing passes through s
        model.layers[0].U.zero_()
        model.layers[0].b.copy_(torch.tensor([0.0, 0.0, 30.0, 0.0]).repeat_interleave(8))  # o, i, f, g: f is open
    norms = gradient_norms(model, encode([list(range(2, 22))] * 20))
    assert norms[1:] == pytest.approx(norms[1], rel=1e-3)
    assert norms[1] > 0


def test_measuring_leaves_no_gradient_behind(make_model, encode) -> None:
    model = make_model()
    gradient_norms(model, encode([[3, 4, 5]]))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_csv_holds_a_lag_a_row(tmp_path: Path) -> None:
    write_gradient_norms(tmp_path / "gradient_flow.csv", np.array([0.5, 1 / 3, 1e-12]))
    assert (tmp_path / "gradient_flow.csv").read_bytes() == b"lag,gradient_norm\n0,0.5\n1,0.333333\n2,1e-12\n"


def test_of_two_plain_rnns_that_differ_in_the_size_of_w_one_vanishes_and_one_explodes(encode, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    found = plain_rnn_norms(50, encode([chance.integers(2, 50, 32).tolist() for _ in range(30)]))
    assert found["vanishes"][-1] < 1e-4 * found["vanishes"][0]
    assert found["explodes"][-1] > 1e2 * found["explodes"][0]
    write_plain_rnn_norms(tmp_path / "plain_rnns.csv", found)
    header, first, *rest = (tmp_path / "plain_rnns.csv").read_text().splitlines()
    assert header == "gradient,lag,gradient_norm"
    assert first == f"vanishes,0,{found['vanishes'][0]:.6g}"
    assert rest[-1] == f"explodes,30,{found['explodes'][30]:.6g}"
