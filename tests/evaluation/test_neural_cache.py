"""What the cache recalls, block by block, against its sum over the words before."""

import math

import pytest
import torch

from pipeline.evaluation.neural_cache import Memory
from pipeline.evaluation.reading import Block


@pytest.mark.parametrize("window", [1, 3, 7, 50])
def test_blocks_recall_the_words_of_the_window_before_each_row(window: int) -> None:
    chance = torch.Generator().manual_seed(1)
    h_NH, words_N = torch.randn(20, 4, generator=chance).double(), torch.randint(0, 5, (20,), generator=chance)
    memory, found, of_targets = Memory(7), [], []
    for h_RH, y_R in zip(h_NH.split([1, 6, 2, 11]), words_N.split([1, 6, 2, 11]), strict=True):
        recalled = memory.read(Block(h_RH, torch.empty(len(h_RH), 5), y_R)).within(min(window, 7))
        found += recalled.of_all_words(0.7, 5).tolist()
        of_targets += recalled.of_targets(y_R, (0.1, 0.7))[1].tolist()
    assert found[0] == [0.0] * 5
    for t in range(1, 20):
        before = range(max(0, t - min(window, 7)), t)
        likeness = {i: math.exp(0.7 * float(h_NH[t] @ h_NH[i])) for i in before}
        expected = [
            sum(likeness[i] for i in before if words_N[i] == word) / sum(likeness.values()) for word in range(5)
        ]
        assert found[t] == pytest.approx(expected)
        assert of_targets[t] == pytest.approx(expected[int(words_N[t])])
