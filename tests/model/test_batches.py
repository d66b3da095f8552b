import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.batches import token_budget_batches
from tests.training.conftest import of_lengths

lengths_of_sentences = st.lists(st.integers(1, 12), min_size=1, max_size=40)
budgets = st.integers(1, 40)
seeds = st.integers(0, 2**31 - 1)
epochs = st.integers(0, 100)


def filled_one_by_one(lengths: list[int], budget: int) -> list[list[int]]:
    """The lengths in each batch when sentences, shortest first, go into the last batch while they fit."""
    batches: list[list[int]] = []
    for length in sorted(lengths):
        if batches and sum(batches[-1]) + length <= budget:
            batches[-1].append(length)
        else:
            batches.append([length])
    return batches


@given(lengths_of_sentences, budgets, seeds, epochs)
def test_every_sentence_is_there_once(lengths, budget, seed, epoch):
    batches = token_budget_batches(of_lengths(lengths), budget, seed, epoch)
    assert all(batch.dtype == np.int64 for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))


@given(lengths_of_sentences, budgets, seeds, epochs)
def test_a_batch_keeps_to_the_budget_unless_it_is_one_longer_sentence(lengths, budget, seed, epoch):
    split = of_lengths(lengths)
    for batch in token_budget_batches(split, budget, seed, epoch):
        assert len(batch) == 1 or split.lengths[batch].sum() <= budget


@given(lengths_of_sentences, budgets, seeds, epochs)
def test_batches_hold_similar_lengths_and_as_many_sentences_as_fit_in_every_epoch(lengths, budget, seed, epoch):
    split = of_lengths(lengths)
    batches = token_budget_batches(split, budget, seed, epoch)
    assert sorted(sorted(split.lengths[batch].tolist()) for batch in batches) == sorted(
        filled_one_by_one(lengths, budget)
    )


@given(lengths_of_sentences, budgets, seeds, epochs)
def test_batches_are_a_function_of_the_arguments(lengths, budget, seed, epoch):
    once = token_budget_batches(of_lengths(lengths), budget, seed, epoch)
    again = token_budget_batches(of_lengths(lengths), budget, seed, epoch)
    assert [batch.tolist() for batch in once] == [batch.tolist() for batch in again]


def test_another_seed_or_epoch_mixes_sentences_and_shuffles_batches_anew():
    lengths = [1 + i % 6 for i in range(120)]
    split = of_lengths(lengths)
    drawn = [token_budget_batches(split, 12, *when) for when in [(1, 1), (1, 2), (2, 1), (2, 2)]]
    contents = {tuple(sorted(tuple(sorted(batch.tolist())) for batch in batches)) for batches in drawn}
    orders = {tuple(int(split.lengths[batch].max()) for batch in batches) for batches in drawn}
    assert len(contents) == len(orders) == 4
    assert all(list(order) != sorted(order) for order in orders)


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([5], 1, [[5]]),
        ([3, 3, 3], 6, [[3], [3, 3]]),  # exactly the budget is within it
        ([3, 3, 3], 5, [[3], [3], [3]]),
        ([9, 1, 8, 1], 2, [[1, 1], [8], [9]]),
    ],
)
def test_edges_of_the_budget(lengths, budget, expected):
    split = of_lengths(lengths)
    batches = token_budget_batches(split, budget, seed=1, epoch=1)
    assert sorted(sorted(split.lengths[batch].tolist()) for batch in batches) == expected


def test_global_random_states_are_neither_used_nor_touched():
    def states() -> list[str]:
        return [str(random.getstate()), str(np.random.get_state()), str(torch.get_rng_state().tolist())]

    split = of_lengths([1 + i % 6 for i in range(50)])
    before = states()
    first = token_budget_batches(split, 12, seed=1, epoch=1)
    assert states() == before
    np.random.seed(5)
    torch.manual_seed(5)
    second = token_budget_batches(split, 12, seed=1, epoch=1)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
