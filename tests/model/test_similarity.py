"""The nearest words are those of the largest cosines, by NumPy."""

import numpy as np
import pytest
import torch

from pipeline.model.language_model import LanguageModel
from pipeline.model.similarity import nearest
from tests.conftest import model_params


@pytest.mark.parametrize("embedding", [5, None])
def test_the_nearest_words_have_the_largest_cosines(embedding: int | None) -> None:
    model = LanguageModel(
        model_params(cell="gru", embedding_dim=embedding), 12, torch.Generator().manual_seed(0)
    ).eval()
    rows = dict(model.named_parameters())["E" if embedding else "layers.0.U"].detach().double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids, cosines = nearest(model, range(2, 11), [4, 10], 8)
    for word, own_ids, own in zip((4, 10), ids.tolist(), cosines.tolist(), strict=True):
        expected = sorted(set(range(2, 11)) - {word}, key=lambda other: -rows[word] @ rows[other])
        assert own_ids == expected
        assert own == pytest.approx([rows[word] @ rows[other] for other in expected], abs=1e-6)
    fewer = nearest(model, range(2, 11), [4], 3)
    assert (fewer[0].tolist(), fewer[1].tolist()) == (ids[:1, :3].tolist(), cosines[:1, :3].tolist())
