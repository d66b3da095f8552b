"""Scores of a split are those of reading its sentences word by word."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.inference import predictor as module
from pipeline.inference.scoring import score_split


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_scores_are_those_of_reading_word_by_word(cell, make_predictor, encode, monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 16)  # several batches
    generator = np.random.default_rng(0)
    predictor = make_predictor(cell)
    split = encode([generator.integers(2, 23, length).tolist() for length in generator.integers(1, 12, 20)])
    scores = score_split(predictor, split, "test").sentences
    for index in range(len(split)):
        ids = torch.from_numpy(split.ids[split.offsets[index] : split.offsets[index + 1]].astype(np.int64))
        nats, ranks, state = 0.0, [], None
        for word, target in itertools.pairwise(ids):
            logits, state = predictor.model.next_logits(word[None], state)
            nats -= logits[0].double().log_softmax(0)[target].item()
            ranks.append(int((logits[0] > logits[0, target]).sum()))
        assert scores.nats[index] == pytest.approx(nats, rel=1e-5)
        assert scores.tokens[index] == len(ids) - 1
        assert scores.top1[index] == sum(rank == 0 for rank in ranks)
        assert scores.top5[index] == sum(rank < 5 for rank in ranks)
        assert scores.unknown[index] == int((ids == 22).sum())
    assert predictor.nats(split) == pytest.approx(scores.nats, rel=1e-5)


def test_scores_of_one_sentence_do_not_depend_on_the_others(make_predictor, encode) -> None:
    predictor = make_predictor()
    together = score_split(predictor, encode([[2, 3], [4, 5, 6, 7, 8], [9]]), "test").sentences
    alone = score_split(predictor, encode([[4, 5, 6, 7, 8]]), "test").sentences
    assert together.nats[1] == pytest.approx(alone.nats[0], rel=1e-6)
