"""The small models of tests/evaluation."""

import pytest

from pipeline.inference.predictor import Predictor
from tests.conftest import saved_model
from tests.evaluation.conftest import encode, make_model, vocabulary

__all__ = ["encode", "make_model", "vocabulary"]


@pytest.fixture
def make_predictor(make_model, vocabulary):
    """Builds a `Predictor` of such a model."""
    return lambda *args, lowercase=True, **shape: Predictor(
        saved_model(make_model(*args, **shape), vocabulary, lowercase)
    )
