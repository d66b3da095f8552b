"""A model in use reads texts by its own words and rules, and scores them as reading word by word would."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.inference import predictor as module
from pipeline.inference.generation import Decoding
from pipeline.inference.predictor import Predictor
from tests.conftest import saved_model


@pytest.fixture
def make_predictor(make_model, vocabulary):
    return lambda *args, lowercase=True, **shape: Predictor(
        saved_model(make_model(*args, **shape), vocabulary, lowercase)
    )


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_scores_are_those_of_reading_word_by_word(cell, make_predictor, encode, monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 16)  # several batches
    generator = np.random.default_rng(0)
    predictor = make_predictor(cell)
    split = encode([generator.integers(2, 23, length).tolist() for length in generator.integers(1, 12, 20)])
    scores = predictor.score(split, "test").sentences
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
    together = predictor.score(encode([[2, 3], [4, 5, 6, 7, 8], [9]]), "test").sentences
    alone = predictor.score(encode([[4, 5, 6, 7, 8]]), "test").sentences
    assert together.nats[1] == pytest.approx(alone.nats[0], rel=1e-6)


def test_no_text_has_no_score(make_predictor) -> None:
    predictor = make_predictor()
    none = predictor.encode(predictor.tokens([]))
    assert len(predictor.score(none, "test").sentences.nats) == len(predictor.nats(none)) == 0


def test_texts_are_read_by_the_models_own_words_and_rules(make_predictor, vocabulary) -> None:
    lower, exact = make_predictor(), make_predictor(lowercase=False)
    assert lower.tokens(["The is", ""]) == [["the", "is"], []]
    assert exact.tokens(["The is"]) == [["The", "is"]]
    the, is_, unknown = *vocabulary.encode(["the", "is"]), vocabulary.unknown_id
    assert lower.encode(lower.tokens(["The is", ""])).ids.tolist() == [0, the, is_, 1, 0, 1]
    assert exact.encode(exact.tokens(["The is"])).ids.tolist() == [0, unknown, is_, 1]


def test_it_suggests_and_generates_with_its_own_words(make_predictor, vocabulary) -> None:
    predictor = make_predictor()
    prompts = predictor.tokens(["the", ""])
    assert [len(words) for words in predictor.suggest(prompts, 3)] == [3, 3]
    first, second = predictor.generate(prompts, 2, Decoding(temperature=1.0, top_k=None, max_length=5, seed=1))
    assert [sentence[0] for sentence in first] == ["the", "the"]
    assert {token for sentence in first + second for token in sentence} <= set(vocabulary.tokens)
