"""What a sweep draws from, and entries of `cells` made of it."""

import datetime
from typing import Any

import pytest

from pipeline.params import Range, check_params, read_params
from pipeline.runtime.errors import InputError
from pipeline.training.automatic import CHOICES
from pipeline.tuning.space import RANGES, drawn_of, entry_of, rounded, search_space
from tests.conftest import PROJECT, model_params


def test_auto_goes_by_the_training_tokens_around_what_training_takes() -> None:
    assert RANGES.keys() == CHOICES.keys()
    for tokens, choice in CHOICES.items():
        space = search_space(dict.fromkeys(("hidden_size", "batch_tokens"), "auto"), tokens)
        values = {"hidden_size": 100, "batch_tokens": choice.batch_tokens}
        for key, value in values.items():
            within = space[key]
            assert isinstance(within, Range)
            assert within.low < value < within.high
    assert search_space({"hidden_size": "auto"}, 59_999) != search_space({"hidden_size": "auto"}, 60_000)


@pytest.mark.parametrize(
    ("key", "values", "why"),
    [
        ("hidden", [1], "unknown key; there are: embedding, cell, hidden_size"),
        ("layers", "auto", "`auto` is known for hidden_size, batch_tokens only"),
        ("tie_weights", [True], "search `embedding`"),
        ("embedding_dim", [100], "search `embedding`"),
        ("seed", [1, 2], "another seed is no better recipe"),
        ("embedding", ["none"], "must be a list of one-hot, own and tied, got \\['none'\\]"),
        ("embedding", Range(low=1, high=2), "must be a list of one-hot, own and tied"),
        ("epochs", [3, 6], "give a list of one number"),
        ("epochs", Range(low=1, high=2), "give a list of one number"),
        ("hidden_size", [64, 0], "Input should be greater than or equal to 1, got 0"),
        ("hidden_size", Range(low=0, high=9), "Input should be greater than or equal to 1, got 0"),
        ("layers", Range(low=1.5, high=9), "Input should be a valid integer, got 1.5"),
        ("cell", [datetime.date(2024, 1, 1)], "Input should be 'rnn', 'lstm' or 'gru', got datetime.date"),
        ("betas", [[0.9, 1.5]], "Input should be less than 1, got"),
    ],
)
def test_what_cannot_be_searched_is_named(key: str, values: Any, why: str) -> None:
    with pytest.raises(InputError, match=f"params.yaml: tune.search.{key}: {why}"):
        search_space({key: values}, 1000)


@pytest.mark.parametrize("values", [{"low": 2, "high": 1}, {"low": 1}, {"low": -1, "high": 1}, [], "none", None, 3])
def test_what_is_neither_list_nor_range_is_told_what_it_must_be(values: Any) -> None:
    content = read_params(PROJECT / "params.yaml")
    content["tune"]["search"] = {"hidden_size": values}
    message = "params.yaml: tune.search.hidden_size: must be a list, {low: A, high: B} with 0 <= A < B, or auto, got "
    with pytest.raises(InputError) as error:
        check_params(content)
    assert str(error.value) == f"{message}{values!r}"


@pytest.mark.parametrize(
    ("embedding", "width", "tied"), [("one-hot", None, False), ("own", 50, False), ("tied", 50, True)]
)
def test_an_embedding_is_as_wide_as_the_layer(embedding: str, width: int | None, tied: bool) -> None:
    drawn = {"embedding": embedding, "hidden_size": 50, "dropped_words": 0.1}
    entry = entry_of(drawn, hidden_size=100, embedding_dim=7)
    dropped = 0.0 if width is None else 0.1  # where there is an embedding to drop them from
    assert entry == {"hidden_size": 50, "embedding_dim": width, "tie_weights": tied, "dropped_words": dropped}
    model = model_params(hidden_size=50, embedding_dim=width, tie_weights=tied).model_dump()
    space = {"embedding": ["one-hot", "own", "tied"], "hidden_size": Range(low=50, high=60), "cell": ["gru"]}
    # The cell was another, so Optuna is not told of one.
    assert drawn_of({"model": model, "train": {}}, space) == {"embedding": embedding, "hidden_size": 50}


def test_what_is_not_drawn_stays_as_params_yaml_has_it() -> None:
    assert entry_of({"layers": 2, "dropped_words": 0.1}, 100, 100) == {"layers": 2, "dropped_words": 0.1}
    assert entry_of({"embedding": "own"}, 100, None) == {"embedding_dim": 100, "tie_weights": False}
    model = model_params(hidden_size=50, embedding_dim=20).model_dump()
    assert drawn_of({"model": model, "train": {}}, {"embedding": ["own"], "hidden_size": Range(low=1, high=49)}) == {}


def test_drawn_numbers_are_short_and_stay_within_their_range() -> None:
    assert rounded(0.0087139, Range(low=0.001, high=0.03)) == 0.0087
    assert (rounded(173, Range(low=100, high=400)), rounded(397, Range(low=100, high=396))) == (170, 396)
    assert isinstance(rounded(173, Range(low=100, high=400)), int)
    assert rounded(0.00104, Range(low=0.00103, high=0.03)) == 0.00103
