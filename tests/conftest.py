"""What several tests share."""

import os
from collections.abc import Mapping
from pathlib import Path

# Before torch is imported, and for every process that a test starts: threads that spin while they wait would take the
# processors from the other tests, ten times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from pipeline.model.params import ModelParams
from pipeline.text.counting import WordCounts, build_vocabulary
from pipeline.text.vocabulary import Vocabulary

pytest_plugins = ["tests.projects"]

# For tests of many minutes, which CI has no time for.
only_in_soak = pytest.mark.skipif(os.environ.get("RNNLM_SOAK") != "1", reason="takes minutes: run by `make soak`")
PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Corpora that some machines have beside the checkout; tests that need them skip elsewhere."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/data beside the checkout (corpora that cannot be distributed)")
    return folder


def vocabulary_of(counts: Mapping[str, int], size: int | None, sentences: int) -> Vocabulary:
    """The vocabulary of a training split with these counts."""
    words = WordCounts(Path("never written, so few are these"))
    words.add(counts.keys(), counts.values())
    words.sentences = sentences
    return build_vocabulary(words, size)


def model_params(**changes) -> ModelParams:
    """Section `model` of a small LSTM, but for `changes`."""
    values = {
        "cell": "lstm",
        "hidden_size": 12,
        "embedding_dim": None,
        "layers": 1,
        "bias": True,
        "output_bias": True,
        "tie_weights": False,
        "dropout": 0.0,
        "lookup_init": None,
    }
    return ModelParams.model_validate({**values, **changes})
