"""What is dropped, and that all else is computed as without: values and gradients by the equations in float64."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.model import dropping
from pipeline.model.cells import State
from pipeline.model.dropping import Dropping, mask
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.text.encoded import EncodedSplit
from tests.conftest import model_params
from tests.model.reference import step_reading

SENTENCES = [[5, 3, 5, 7, 3], [4, 5], [], [6, 6, 3]]
SPLIT = EncodedSplit.of([0, *words, 1] for words in SENTENCES)


def build(cell: str, **rates: float) -> LanguageModel:
    shape = model_params(cell=cell, hidden_size=6, embedding_dim=5, layers=2, lower_sizes=[4])
    model = LanguageModel(shape, 9, torch.Generator().manual_seed(1)).double().train()
    model.dropping = Dropping(**rates)
    return model


@dataclass
class Masks:
    """The longest sentence's first; by layer where there are several."""

    words: Tensor  # (C, 1)
    lower: Tensor  # of the embedding (B, X)
    weights: list[Tensor]  # (H, G)
    states: list[Tensor]  # (B, H)
    upper: list[Tensor]  # of what each layer hands on (B, H)


def transcribed(model: LanguageModel, masks: Masks) -> Tensor:
    """Mean nats of all targets, word by word."""
    E, V, c = (model.get_parameter(name) for name in ("E", "V", "c"))
    nats = []
    for b, ids in enumerate(sorted(([0, *words, 1] for words in SENTENCES), key=len, reverse=True)):
        zeros = [E.new_zeros(1, size) for size in (4, 6)]
        states: list[State] = [(zero, zero) if model.params.cell == "lstm" else zero for zero in zeros]
        for word, target in itertools.pairwise(ids):
            x = (E[word] * masks.words[word] * masks.lower[b]).unsqueeze(0)
            for k, masked in enumerate(masks.upper):
                U, W, bias = (model.get_parameter(f"layers.{k}.{name}") for name in "UWb")
                W = W * masks.weights[k]
                state = states[k] = step_reading(masks.states[k][b], model.params.cell, x, states[k], U, W, bias)
                x = (state[0] if isinstance(state, tuple) else state) * masked[b]
            logits = x @ V.t() + c
            nats.append(torch.logsumexp(logits, 1) - logits[:, target])
    return torch.cat(nats).mean()


RATES = {"words": 0.25, "embedding": 0.45, "inputs": 0.4, "outputs": 0.3, "states": 0.35, "recurrent_weights": 0.15}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_values_and_gradients_are_those_of_the_equations_with_these_masks(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, drawn = build(cell, **RATES), []

    def recorded(like: Tensor, shape: Sequence[int], rate: float, generator: torch.Generator | None) -> Tensor:
        drawn.append((rate, mask(like, shape, rate, generator)))
        return drawn[-1][1]

    monkeypatch.setattr(dropping, "mask", recorded)
    loss = model.loss(pack(SPLIT, range(4)), generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    G = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    assert [(rate, tuple(found.shape)) for rate, found in drawn] == [
        (0.25, (9, 1)), (0.45, (4, 5)),
        (0.15, (4, 4 * G)), (0.35, (4, 4)), (0.4, (4, 4)),
        (0.15, (6, 6 * G)), (0.35, (4, 6)), (0.3, (4, 6)),
    ]  # fmt: skip
    assert all((found == 0).any() for _, found in drawn)
    words, lower, *of_layers = (found for _, found in drawn)
    expected = transcribed(model, Masks(words, lower, of_layers[::3], of_layers[1::3], of_layers[2::3]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    for mine, other in zip(gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-12)


def test_the_embedding_drops_as_the_inputs_do_unless_it_has_a_rate_of_its_own() -> None:
    batch = pack(SPLIT, range(4))
    losses = [
        build("lstm", **rates).loss(batch, generator=torch.Generator().manual_seed(3)).item()
        for rates in ({"inputs": 0.4}, {"inputs": 0.4, "embedding": 0.4}, {"inputs": 0.4, "embedding": 0.0})
    ]
    assert losses[0] == losses[1] != losses[2]


def test_masks_keep_the_mean_and_evaluation_drops_nothing() -> None:
    drawn = mask(torch.ones(1), (400, 400), 0.3, torch.Generator().manual_seed(1))
    assert sorted(drawn.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (drawn == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    batch, model = pack(SPLIT, range(4)), build("lstm", **RATES).eval()
    assert model.loss(batch).item() == build("lstm").loss(batch).item()


def test_a_dropped_word_is_zero_wherever_it_is_read() -> None:
    ids = torch.tensor([3, 4, 5, 6, 7, 8] * 5)
    x = Dropping(words=0.5).without_words(torch.ones(30, 2), ids, 9, torch.Generator().manual_seed(1))
    assert np.ptp(x.numpy().reshape(5, 6, 2), axis=0).max() == 0
    assert set(x.unique().tolist()) == {0, 2}
