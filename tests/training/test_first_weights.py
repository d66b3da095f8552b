"""A model takes over what an earlier one knows of its words, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.folder import model_digest, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.provenance.warm_start_file import read_digests
from pipeline.runtime.errors import InputError
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.first_weights import first_weights_of, warm_start
from tests.conftest import model_params, saved_model
from tests.projects import as_commit_726b98c

WORDS = ["the", "cat", "sees", "a", "dog"]
SHAPES: list[dict[str, Any]] = [
    {"cell": "rnn", "bias": False, "output_bias": False},
    {"cell": "lstm"},
    {"cell": "gru", "embedding_dim": 5, "layers": 2},
    {"cell": "gru", "embedding_dim": 12, "tie_weights": True},
    {"cell": "lstm", "embedding_dim": 5, "layers": 2, "lower_sizes": [7], "mogrifier_rounds": 2},
]


def vocabulary(words: list[str]) -> Vocabulary:
    return Vocabulary(["SENTENCE_START", "SENTENCE_END", *words, "UNKNOWN_TOKEN"], [0, *range(len(words) + 2)])


def model(words: Vocabulary, seed: int, **shape: Any) -> LanguageModel:
    return LanguageModel(model_params(**shape), len(words), torch.Generator().manual_seed(seed)).eval()


def saved(folder: Path, words: Vocabulary, **shape: Any) -> LanguageModel:
    """The earlier model, with biases that are not zero."""
    before = model(words, 1, **shape)
    with torch.no_grad():
        for weight in before.parameters():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    save_model(saved_model(before, words), folder)
    return before


def logits(of: LanguageModel, words: Vocabulary, text: list[str]) -> dict[str, float]:
    """What the model says of each word after a text, by the word."""
    state, found = None, torch.empty(0)
    for id_ in words.sentence_ids(text)[:-1]:
        found, state = of.next_logits(torch.tensor([id_]), state)
    return {f"{id_ < 2} {token}": float(value) for id_, (token, value) in enumerate(zip(words.tokens, found[0]))}  # noqa: B905


@pytest.mark.parametrize("shape", SHAPES)
def test_words_in_another_order_have_the_logits_they_had(tmp_path: Path, shape: dict[str, Any]) -> None:
    before, after = vocabulary(WORDS), vocabulary(["dog", *WORDS[:4]])
    earlier = saved(tmp_path, before, **shape)
    later = model(after, 2, **shape)
    assert warm_start(later, after, tmp_path) == f"starts from the weights in {tmp_path}, which knows 8 of the 8 words"
    text = ["the", "dog", "flies", "a"]  # one of them unknown
    assert logits(later, after, text) == pytest.approx(logits(earlier, before, text), abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_new_words_keep_their_random_weights_and_old_ones_may_go(tmp_path: Path, shape: dict[str, Any]) -> None:
    before, after = vocabulary(WORDS), vocabulary(["bird", "the", "cat", "sees", "a"])
    earlier, later, random = saved(tmp_path, before, **shape), model(after, 2, **shape), model(after, 2, **shape)
    assert str(warm_start(later, after, tmp_path)).endswith("knows 7 of the 8 words")
    assert torch.equal(later.output_weight[2], random.output_weight[2])
    assert torch.equal(later.output_weight[3:], earlier.output_weight[[2, 3, 4, 5, 7]])
    look_up = "layers.0.U" if later.E is None else "E"
    for name, weight in later.state_dict().items():
        if name == look_up:
            assert torch.equal(
                weight[[0, 1, 2]], torch.stack([*earlier.state_dict()[name][:2], random.state_dict()[name][2]])
            )
        elif name not in ("V", "c"):
            assert torch.equal(weight, earlier.state_dict()[name])


def test_a_word_spelled_like_a_special_token_is_no_special_token(tmp_path: Path) -> None:
    before, after = vocabulary(["the", "SENTENCE_END"]), vocabulary(["UNKNOWN_TOKEN", "SENTENCE_END"])
    earlier, later, random = saved(tmp_path, before), model(after, 2), model(after, 2)
    warm_start(later, after, tmp_path)
    rows = [earlier.output_weight[0], earlier.output_weight[1], random.output_weight[2], *earlier.output_weight[3:]]
    assert torch.equal(later.output_weight, torch.stack(rows))


def test_a_model_of_another_shape_is_left_alone(tmp_path: Path) -> None:
    words = vocabulary(WORDS)
    saved(tmp_path, words)
    later, random = model(words, 2, cell="gru", hidden_size=9), model(words, 2, cell="gru", hidden_size=9)
    told = f"starts from random weights, as the model in {tmp_path} has cell lstm, not gru, hidden_size 12, not 9"
    assert warm_start(later, words, tmp_path) == told
    assert all(torch.equal(*pair) for pair in zip(later.parameters(), random.parameters(), strict=True))
    saved(tmp_path, words, layers=2)
    later = model(words, 2, layers=2, lower_sizes=[9])
    told = f"starts from random weights, as the model in {tmp_path} has lower_sizes None, not [9]"
    assert warm_start(later, words, tmp_path) == told


def test_a_model_of_running_text_is_no_beginning_for_one_of_sentences(tmp_path: Path) -> None:
    words = vocabulary(WORDS)
    earlier, later = saved(tmp_path, words), model(words, 2)
    told = f"starts from random weights, as the model in {tmp_path} has train.context sentence, not stream"
    assert warm_start(later, words, tmp_path, "stream") == told
    assert first_weights_of(later.params, tmp_path, "stream") is None
    save_model(replace(saved_model(earlier, words), train={"context": "stream"}), tmp_path)
    assert str(warm_start(later, words, tmp_path)).endswith("has train.context stream, not sentence")
    assert str(warm_start(later, words, tmp_path, "stream")).endswith("knows 8 of the 8 words")
    assert first_weights_of(later.params, tmp_path, "stream") == model_digest(tmp_path)


def test_dropout_and_first_weights_are_no_shape(tmp_path: Path) -> None:
    words = vocabulary(WORDS)
    earlier, later = saved(tmp_path, words), model(words, 2, dropout=0.5, lookup_init="incoming", weight_init=0.1)
    warm_start(later, words, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(later.parameters(), earlier.parameters(), strict=True))


def test_without_a_model_nothing_happens(tmp_path: Path) -> None:
    words = vocabulary(WORDS)
    (tmp_path / "warm_start.json").write_text("{}")  # as the stage leaves it
    later, random = model(words, 2), model(words, 2)
    assert warm_start(later, words, tmp_path) is None
    assert all(torch.equal(*pair) for pair in zip(later.parameters(), random.parameters(), strict=True))


def test_a_champion_of_commit_726b98c_gives_its_weights(tmp_path: Path) -> None:
    words = vocabulary(WORDS)
    earlier, later = saved(tmp_path, words), model(words, 2)
    digest = as_commit_726b98c(tmp_path)
    words.save(tmp_path / "vocabulary.tsv")  # which lay beside it in data/warm_start then too
    assert str(warm_start(later, words, tmp_path)).endswith("knows 8 of the 8 words")
    assert all(torch.equal(*pair) for pair in zip(later.parameters(), earlier.parameters(), strict=True))
    assert first_weights_of(later.params, tmp_path) == digest


def test_only_the_shape_is_read_to_see_whether_weights_can_be_taken(tmp_path: Path) -> None:
    saved(tmp_path, vocabulary(WORDS))
    (tmp_path / "model.safetensors").unlink()
    assert first_weights_of(model_params(hidden_size=9), tmp_path) is None


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, vocabulary(WORDS))
    vocabulary(WORDS[:3]).save(tmp_path / "vocabulary.tsv")
    with pytest.raises(InputError, match=r"vocabulary\.tsv is not the file that config\.json beside it describes"):
        warm_start(model(vocabulary(WORDS), 2), vocabulary(WORDS), tmp_path)


HASHES = dict.fromkeys(["config.json", "model.safetensors", "vocabulary.tsv"], "0" * 32)


@pytest.mark.parametrize("content", [{}, HASHES])
def test_the_file_names_no_model_or_all_its_files(tmp_path: Path, content: dict[str, str]) -> None:
    path = tmp_path / "warm_start.json"
    path.write_text(json.dumps(content))
    assert read_digests(path) == content


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "\x00",
        '{"config.json": "00"}',
        json.dumps(HASHES | {"config.json": 7}),
        json.dumps(HASHES | {"config.json": "../" + "0" * 29}),
        json.dumps(HASHES | {"../config.json": "0" * 32}),
    ],
)
def test_anything_else_in_the_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "warm_start.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"warm_start\.json must hold \{\}, or the MD5"):
        read_digests(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"warm_start\.json is missing"):
        read_digests(tmp_path / "warm_start.json")
