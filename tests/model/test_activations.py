"""What activations cost: values and gradients by a plain transcription in float64."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.model.activations import ActivationCosts
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.text.encoded import EncodedSplit
from tests.model.test_dropping import RATES, SPLIT, build

BATCH = pack(SPLIT, range(4))


def gradients(model: LanguageModel, batch: PackedBatch = BATCH) -> list[Tensor]:
    loss = model.loss(batch, generator=torch.Generator().manual_seed(3))
    return [*torch.autograd.grad(loss, list(model.parameters()))]


def transcribed(model: LanguageModel, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """The mean nats, and all that is minimised, sentence by sentence and step by step."""
    h_NH, read_NH, _ = model._run(BATCH.x_N, BATCH.batch_sizes, None, torch.Generator().manual_seed(3), "exact")
    nats = cross_entropy(read_NH @ model.get_parameter("V").t() + model.get_parameter("c"), BATCH.y_N)
    sequence_N = steps_and_sequences(BATCH.batch_sizes)[1]
    changes = []
    for b in range(BATCH.batch_sizes[0]):
        h_TH = h_NH[sequence_N == b]
        changes += [after - before for before, after in itertools.pairwise(h_TH)]
    return nats, nats + alpha * read_NH.pow(2).mean() + beta * torch.stack(changes).pow(2).mean()


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.0), (0.0, 1.0), (0.7, 3.0)])
def test_gradients_are_of_nats_and_costs_and_the_value_is_of_nats(alpha: float, beta: float) -> None:
    model = build("lstm", **RATES)
    nats, minimised = transcribed(model, alpha, beta)
    model.costs = ActivationCosts(alpha, beta)
    assert model.loss(BATCH, generator=torch.Generator().manual_seed(3)).item() == pytest.approx(nats.item(), rel=1e-12)
    expected = torch.autograd.grad(minimised, list(model.parameters()))
    for mine, other in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_in_evaluation_and_where_no_step_has_one_before_nothing_is_added() -> None:
    plain, model = build("gru"), build("gru")
    model.costs = ActivationCosts(change=1.0)
    one_word = pack(EncodedSplit.of([[0, 1], [0, 1]]), range(2))
    assert all(map(torch.equal, gradients(model, one_word), gradients(plain, one_word)))
    assert not all(map(torch.equal, gradients(model), gradients(plain)))
    assert all(map(torch.equal, gradients(model.eval()), gradients(plain.eval())))
