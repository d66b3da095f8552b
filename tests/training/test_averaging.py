from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pipeline.training import trainer
from pipeline.training.averaging import share_of_step, triggered, update, with_weights
from pipeline.training.history import best_epoch
from tests.training.conftest import SIZE, Remembers, counting, history, train_params

VALID_NATS = [5.0, 4.0, 3.0, 3.5, 3.2, 3.4, 3.1, 2.9, 3.3, 3.2, 3.0]


def steps_of_sgd(weight: torch.Tensor, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [weight - 0.3 * torch.stack(drawn[: step + 1]).sum(0) for step in range(count)]


def averages(params, weights, total, past) -> list[Any]:
    """What the average is after each step; None where there is none."""
    model: Any = torch.nn.Linear(3, 2, bias=False).double()
    average, found = {}, []
    for step, weight in enumerate(weights, start=1):
        model.load_state_dict({"weight": weight})
        share = share_of_step(params, step, total, past(step))
        if share is not None:
            update(average, model, share)
        found.append(average["weight"].clone() if average else None)
    return found


def test_triggered_is_the_mean_since_the_epoch_that_awd_lstm_would_begin_after():
    """Its main.py: `len(best_val_loss) > nonmono and val_loss > min(best_val_loss[:-nonmono])`."""
    in_an_epoch, nonmono = 4, 3
    best_val_loss, begin = [], 0
    for epoch, val_loss in enumerate(VALID_NATS, start=1):
        if not begin and len(best_val_loss) > nonmono and val_loss > min(best_val_loss[:-nonmono]):
            begin = epoch * in_an_epoch
        best_val_loss.append(val_loss)
    weights = steps_of_sgd(torch.ones(2, 3, dtype=torch.float64), in_an_epoch * len(VALID_NATS))
    past = [replace(record, steps=in_an_epoch * record.epoch) for record in history(valid_nats=VALID_NATS)]
    params = train_params(average="triggered", average_patience=nonmono, patience=50)
    found = averages(params, weights, len(weights), lambda step: past[: (step - 1) // in_an_epoch])
    assert triggered(past, nonmono) == begin == 7 * in_an_epoch
    assert found[:begin] == [None] * begin
    for step in range(begin, len(weights)):
        mean = torch.stack(weights[begin : step + 1]).mean(0)
        torch.testing.assert_close(found[step], mean, rtol=1e-12, atol=1e-14)


def test_what_is_no_worse_than_the_best_long_ago_triggers_nothing():
    assert triggered(history(valid_nats=VALID_NATS[:6]), 3) is None
    assert triggered(history(valid_nats=[3.0, 3.0, 3.0, 3.0]), 1) is None
    assert triggered(history(valid_nats=[3.0, 9.0]), 1) is None  # one epoch older, not more than one
    assert triggered(history(valid_nats=[3.0, 2.0, 9.0]), 1) == 30


@pytest.mark.parametrize(("share", "steps"), [(0.25, 3), (0.3, 3), (1.0, 10), (0.001, 1)])
def test_last_is_the_mean_over_the_share_from_the_end(share, steps):
    weights = steps_of_sgd(torch.ones(2, 3, dtype=torch.float64), 10)
    found = averages(train_params(average="last", average_share=share), weights, 10, lambda _: [])
    assert found.count(None) == 10 - steps
    torch.testing.assert_close(found[-1], torch.stack(weights[-steps:]).mean(0), rtol=1e-12, atol=1e-14)


def test_exponential_weighs_steps_by_powers_of_the_decay():
    weights = steps_of_sgd(torch.ones(2, 3, dtype=torch.float64), 10)
    found = averages(train_params(average="exponential", average_decay=0.8), weights, 10, lambda _: [])
    powers = torch.tensor([0.8**age for age in range(9, -1, -1)], dtype=torch.float64)
    expected = (torch.stack(weights) * powers[:, None, None]).sum(0) / powers.sum()
    torch.testing.assert_close(found[-1], expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(found[0], weights[0])


def test_the_average_is_validated_and_kept_while_training_goes_on_from_the_weights(make_model, monkeypatch):
    after, take_step = [], trainer.take_step
    model = make_model()

    def recorded(optimizer):
        take_step(optimizer)
        after.append({name: weight.clone() for name, weight in model.state_dict().items()})

    monkeypatch.setattr(trainer, "take_step", recorded)
    split, valid = counting(30, seed=1), counting(10, seed=2)
    params = train_params(average="last", average_share=0.5, epochs=2, patience=9)
    records = trainer.Trainer(model, split, valid, [5] * SIZE, params).fit(Remembers())
    steps = len(after) // 2
    assert [record.steps for record in records] == [steps, 2 * steps]
    expected = {name: torch.stack([weights[name] for weights in after[steps:]]).mean(0) for name in after[0]}
    assert best_epoch(records) is records[1]
    torch.testing.assert_close(dict(model.state_dict()), expected, rtol=1e-5, atol=1e-6)
    assert trainer.validation_nats(model, valid, 40) == records[1].valid_nats
    # What the steps themselves do is what they do without an average.
    averaged, after[:] = after[-1], []
    model = make_model()
    trainer.Trainer(model, split, valid, [5] * SIZE, train_params(epochs=2, patience=9)).fit(Remembers())
    assert all(torch.equal(averaged[name], weight) for name, weight in after[-1].items())


def test_without_an_average_the_model_itself_is_validated(make_model):
    model = make_model()
    assert with_weights(model, {}) is model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average": "last"}, "average last needs average_share: give it a number"),
        ({"average_decay": 0.9}, "average_decay counts with average exponential alone, not with None: set it to null"),
        ({"average": "triggered", "average_patience": 5, "patience": 6}, "patience 6 stops training before .* 7 or mo"),
    ],
)
def test_what_would_average_nothing_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        train_params(**changes)
