"""Neighbours of a word, by name."""

import numpy as np
import pytest

from pipeline.inference.neighbours import neighbours
from pipeline.runtime.errors import InputError


def test_neighbours_are_words_with_the_nearest_first(make_predictor) -> None:
    predictor = make_predictor()
    everything = neighbours(predictor, "Is", 1000)
    assert sorted(word for word, _ in everything) == sorted({*predictor.vocabulary.tokens[2:-1]} - {"is"})
    rows = dict(predictor.model.named_parameters())["layers.0.U"].detach().double().numpy()
    ids = predictor.vocabulary.encode(["is", *(word for word, _ in everything)])
    cosines = [rows[ids[0]] @ rows[id_] / np.linalg.norm(rows[ids[0]]) / np.linalg.norm(rows[id_]) for id_ in ids[1:]]
    assert [value for _, value in everything] == pytest.approx(cosines, abs=1e-6)
    assert cosines == sorted(cosines, reverse=True)
    assert neighbours(predictor, "is", 3) == everything[:3]


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
