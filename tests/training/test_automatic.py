"""What `auto` in section `train` comes to."""

import re
from typing import Any

import pytest
import yaml

from pipeline.params import check_params, load_params
from pipeline.training.automatic import CHOICES, in_numbers, told
from tests.conftest import PROJECT

DEFAULT_CORPUS = 1_496_770  # training tokens, as the README says


def test_the_default_corpus_is_trained_as_docs_say() -> None:
    cells = load_params(PROJECT / "params.yaml").cells
    found = {name: in_numbers(cell.train, cell.model, DEFAULT_CORPUS) for name, cell in cells.items()}
    assert {name: (train.epochs, train.batch_tokens, train.learning_rate) for name, train in found.items()} == {
        "rnn": (3, 1024, 0.007),
        "lstm": (3, 1024, 0.05),
        "gru": (3, 1024, 0.015),
    }
    assert told(cells["rnn"].train, found["rnn"]) == "epochs 3, batch_tokens 1024, weight_decay 0.03"
    assert "learning_rate 0.05" in told(cells["lstm"].train, found["lstm"])


def test_gradient_descent_has_no_weight_decay_unless_it_is_given() -> None:
    cell = load_params(PROJECT / "params.yaml").cells["lstm"]
    for optimizer, decay in (("adamw", 0.03), ("sgd", 0.0)):
        settings = cell.train.model_copy(update={"optimizer": optimizer})
        assert in_numbers(settings, cell.model, DEFAULT_CORPUS).weight_decay == decay
        given = settings.model_copy(update={"weight_decay": 0.5})
        assert in_numbers(given, cell.model, DEFAULT_CORPUS).weight_decay == 0.5


def test_every_size_has_its_row_and_what_is_given_stays() -> None:
    content: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["train"]["epochs"] = 5
    content["cells"] = {"lstm": {"cell": "lstm", "batch_tokens": 64}}
    (cell,) = check_params(content).cells.values()
    for size, row in CHOICES.items():
        for tokens in (size, size + 1):
            found = in_numbers(cell.train, cell.model, tokens)
            assert (found.epochs, found.batch_tokens, found.learning_rate) == (5, 64, row.one_hot)
            assert in_numbers(found, cell.model, 1) == found
    cell = load_params(PROJECT / "params.yaml").cells["lstm"]
    assert in_numbers(cell.train, cell.model, 59_999).epochs > in_numbers(cell.train, cell.model, 60_000).epochs


@pytest.mark.parametrize(
    ("change", "one_hot"),
    [({}, True), ({"cell": "gru"}, True), ({"cell": "rnn"}, False), ({"embedding_dim": 9}, False)],
)
def test_gated_cells_without_embedding_have_a_rate_of_their_own(change: dict[str, Any], one_hot: bool) -> None:
    cell, row = load_params(PROJECT / "params.yaml").cells["lstm"], CHOICES[600_000]
    found = in_numbers(cell.train, cell.model.model_copy(update=change), DEFAULT_CORPUS)
    assert found.learning_rate == (row.one_hot if one_hot else row.learning_rate)


def test_the_docs_have_the_table() -> None:
    rows = re.findall(
        r"^\| from ([\d,]+) \| (\d+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$",
        (PROJECT / "docs/training.md").read_text(),
        re.MULTILINE,
    )
    assert [[float(cell.replace(",", "")) for cell in row] for row in rows] == [
        [size, *row] for size, row in CHOICES.items()
    ]


@pytest.mark.parametrize("value", ["car", -1, 0, 1.5])
def test_nothing_else_is_taken_for_a_number(value: Any) -> None:
    content: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["train"]["epochs"] = value
    with pytest.raises(Exception, match=r"^params\.yaml: train\.epochs: Input should be [^;]*$"):
        check_params(content)
