"""Neighbours are the words with the largest cosines, by NumPy."""

import numpy as np
import pytest
import torch

from pipeline.inference.neighbours import neighbours
from pipeline.inference.predictor import Predictor
from pipeline.model.language_model import LanguageModel
from pipeline.runtime.errors import InputError
from tests.conftest import model_params, saved_model


@pytest.mark.parametrize("embedding", [False, True])
def test_neighbours_are_the_words_of_the_largest_cosines(vocabulary, embedding: bool) -> None:
    shape = model_params(cell="gru", embedding_dim=5 if embedding else None)
    model = LanguageModel(shape, len(vocabulary), torch.Generator().manual_seed(0))
    predictor = Predictor(saved_model(model, vocabulary))
    weights = dict(model.named_parameters())["E" if embedding else "layers.0.U"]
    rows = weights.detach().double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = dict(
        zip(predictor.vocabulary.tokens[2:-1], (rows @ rows[predictor.vocabulary.encode(["is"])[0]])[2:-1], strict=True)
    )
    del cosines["is"]
    expected = sorted(cosines, key=lambda word: -cosines[word])
    assert [word for word, _ in neighbours(predictor, "Is", 3)] == expected[:3]
    everything = neighbours(predictor, "is", 1000)
    assert [word for word, _ in everything] == expected
    assert [value for _, value in everything] == pytest.approx([cosines[word] for word in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thiss", "does not know the word 'thiss'; did you mean this"),
        ("zyzzyva", "does not know the word 'zyzzyva'; it stands for all rare ones"),
        ("don't", "\"don't\" is 2 words to the model: do, n't; name one"),
        ("", "'' is 0 words to the model: none; name one"),
    ],
)
def test_what_is_not_one_known_word_is_refused(make_predictor, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        neighbours(make_predictor(), text, 3)
