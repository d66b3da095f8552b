"""The small models of tests/evaluation."""

from tests.evaluation.conftest import encode, make_model, vocabulary

__all__ = ["encode", "make_model", "vocabulary"]
