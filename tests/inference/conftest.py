"""The small models of tests/evaluation."""

from dataclasses import replace

import pytest

from pipeline.inference.predictor import Predictor
from tests.conftest import saved_model
from tests.evaluation.conftest import encode, make_model, vocabulary

__all__ = ["encode", "make_model", "vocabulary"]


@pytest.fixture
def make_predictor(make_model, vocabulary):
    """Builds a `Predictor` of such a model."""

    def make(*args, lowercase=True, context="sentence", **shape) -> Predictor:
        saved = saved_model(make_model(*args, **shape), vocabulary, lowercase)
        return Predictor(replace(saved, train={"context": context}))

    return make
