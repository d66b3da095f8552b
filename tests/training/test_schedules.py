import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.training.schedules import DECAYS, learning_rate, warmup_and_decay
from tests.training.conftest import history, train_params

totals = st.integers(1, 500)
warmups = st.floats(0, 0.99)


def factors(total: int, warmup: float) -> list[float]:
    return [warmup_and_decay(step, total, warmup) for step in range(total)]


@given(totals, warmups)
def test_the_rate_rises_then_falls_and_no_step_is_wasted(total, warmup):
    rates = factors(total, warmup)
    assert min(rates) > 0
    assert max(rates) <= 1
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@given(totals, warmups)
def test_the_rate_equals_an_independent_transcription(total, warmup):
    steps_up = math.ceil(warmup * total)
    up = np.arange(1, steps_up + 1) / (steps_up + 1)
    share_of_the_way_down = (np.arange(steps_up, total) - warmup * total) / (total - warmup * total)
    down = np.cos(np.pi / 2 * share_of_the_way_down) ** 2
    np.testing.assert_allclose(factors(total, warmup), np.concatenate((up, down)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("total", "warmup", "peak"), [(100, 0.1, 10), (8, 0.5, 4), (100, 0.0, 0), (1, 0.0, 0)])
def test_the_peak_ends_the_warmup(total, warmup, peak):
    rates = factors(total, warmup)
    assert rates[peak] == max(rates) == 1


def test_adamw_follows_the_step_and_not_the_history():
    params = train_params(learning_rate=0.3, warmup=0.5)
    rates = [learning_rate(params, step, 4, history(train_nats=[1, 2, 3])) for step in range(4)]
    assert rates == pytest.approx([0.3 / 3, 0.3 * 2 / 3, 0.3, 0.15])


@pytest.mark.parametrize(
    ("train_nats", "halvings"),
    [([], 0), ([3], 0), ([3, 2, 1], 0), ([3, 3], 0), ([3, 2, 2.5], 1), ([1, 2, 1, 2], 2), ([1, 2, 3, 4], 3)],
)
def test_sgd_halves_its_rate_each_time_the_training_loss_rose(train_nats, halvings):
    params = train_params(optimizer="sgd", learning_rate=0.4, warmup=0.5)
    # The validation loss does the opposite, the step would still be in the warm-up: neither counts.
    past = history(train_nats=train_nats, valid_nats=[-nats for nats in train_nats])
    assert learning_rate(params, 1, 100, past) == 0.4 / 2**halvings


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_schedule_is_its_formula_with_either_optimizer(optimizer, schedule):
    params = train_params(optimizer=optimizer, schedule=schedule, learning_rate=2.0, warmup=0.2)
    rates = [learning_rate(params, step, 10, history(train_nats=[1, 2, 3])) for step in range(10)]
    left = (10 - np.arange(2, 10)) / 8  # of the way down
    falling = {"cosine": 1 - np.sin(np.pi / 2 * (1 - left)) ** 2, "linear": left, "constant": left**0}[schedule]
    np.testing.assert_allclose(rates, 2 * np.concatenate(([1 / 3, 2 / 3], falling)), rtol=1e-12)


@pytest.mark.parametrize(("epochs", "after", "factor"), [(13, 4, 2.0), (39, 6, 1.2), (55, 14, 1.15)])
def test_steps_are_those_of_zaremba(epochs, after, factor):
    """Their small, medium and large model: `if epoch > max_epoch then lr = lr / decay`."""
    params = train_params(
        optimizer="sgd", schedule="step", learning_rate=1.0, warmup=0.0, decay_after=after, decay_factor=factor
    )
    expected, rate = [], 1.0
    for epoch in range(1, epochs + 1):
        if epoch > after:
            rate /= factor
        expected.append(rate)
    found = [learning_rate(params, 7, 100, history(train_nats=[1.0] * done)) for done in range(epochs)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_tutorials_halving_is_there_for_adamw_too():
    params = train_params(schedule="halving", learning_rate=0.4)
    assert learning_rate(params, 1, 100, history(train_nats=[3, 2, 2.5])) == 0.2


def test_auto_is_what_each_optimizer_had_before_there_was_a_choice():
    for optimizer, schedule in (("adamw", "cosine"), ("sgd", "halving")):
        assert train_params(optimizer=optimizer).schedule_in_use == schedule
    assert {*DECAYS, "halving"} == {"cosine", "linear", "step", "constant", "halving"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay_after": 3}, "decay_after counts with schedule step alone, not with auto: set it to null"),
        ({"schedule": "linear", "decay_factor": 2.0}, "decay_factor counts with schedule step alone, not with linear"),
        ({"schedule": "step", "decay_after": 3}, "schedule step needs decay_factor: give it a number"),
    ],
)
def test_numbers_of_a_schedule_are_refused_with_another(changes, message):
    with pytest.raises(ValidationError, match=message):
        train_params(**changes)
