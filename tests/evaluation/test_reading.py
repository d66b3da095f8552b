"""Splits read in their order; that what is read is the equations' is in test_adaptation.py."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.evaluation import reading
from pipeline.text.vocabulary import END_ID
from tests.evaluation.test_adaptation import model_of, words


def test_parts_of_a_text_that_are_read_in_parallel_come_in_its_order_each_as_from_its_own_beginning() -> None:
    split, model = words(30, seed=3), model_of(1)
    blocks = list(reading.read(model, split, "stream", streams=4))
    assert torch.cat([block.y_R for block in blocks]).tolist() == np.delete(split.ids, split.offsets[:-1]).tolist()
    text = torch.tensor([END_ID, *np.delete(split.ids, split.offsets[:-1]).tolist()])
    logits_NC, longer = torch.cat([block.logits_RC for block in blocks]), split.tokens % 4
    starts = [stream * (split.tokens // 4) + min(stream, longer) for stream in range(5)]
    for begin, end in itertools.pairwise(starts):
        state = None
        for at in range(begin, end):
            logits_1C, state = model.next_logits(text[at : at + 1], state)
            assert logits_NC[at].tolist() == pytest.approx(logits_1C[0].tolist(), abs=1e-9)
