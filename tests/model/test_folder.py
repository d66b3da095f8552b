"""A model's folder is whole, or what is wrong with it is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.folder import (
    SavedModel,
    load_model,
    model_digest,
    read_config,
    read_vocabulary,
    read_weights,
    save_model,
)
from pipeline.model.params import NEUTRAL_SHAPE
from pipeline.runtime.errors import InputError
from pipeline.text.vocabulary import Vocabulary
from tests.conftest import saved_model
from tests.model.test_language_model import SHAPES, build, random_batch
from tests.projects import as_commit_726b98c


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_loaded_is_what_was_saved(shape, tmp_path: Path) -> None:
    saved = saved_model(build(**shape), lowercase=False)
    save_model(saved, tmp_path)
    loaded = load_model(tmp_path)
    assert not loaded.model.training
    assert loaded.model.params == saved.model.params
    assert loaded.vocabulary.tokens == saved.vocabulary.tokens
    assert loaded.vocabulary.counts == saved.vocabulary.counts
    assert (loaded.text, loaded.train) == (saved.text, saved.train)
    batch = random_batch(5, 9, 30)
    assert torch.equal(loaded.model.score(batch).nats_N, saved.model.score(batch).nats_N)


def test_config_is_sorted_and_says_all_but_the_words(tmp_path: Path) -> None:
    save_model(saved_model(build(embedding_dim=7)), tmp_path)
    text = (tmp_path / "config.json").read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"
    assert (config["text"], config["train"], config["vocabulary_size"]) == ({"lowercase": True}, {"seed": 1}, 30)
    assert config["model"]["embedding_dim"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "vocabulary.tsv"]


def test_an_option_is_in_the_config_where_it_is_used_alone(tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [{}, {"layers": 2, "lower_sizes": [5]}]
    for shape, used in zip(shapes, ({}, {"lower_sizes": [5]}), strict=True):
        save_model(saved_model(build(**shape)), tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())["model"]
        assert {key: value for key, value in saved.items() if key in NEUTRAL_SHAPE} == used


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.tsv"])
def test_a_file_that_is_missing_is_named_and_every_byte_counts_for_the_digest(name: str, tmp_path: Path) -> None:
    save_model(saved_model(build()), tmp_path)
    digest, content = model_digest(tmp_path), (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"1", b"2", 1) if name != "model.safetensors" else content + b" ")
    assert model_digest(tmp_path) != digest
    (tmp_path / name).write_bytes(content)
    assert model_digest(tmp_path) == digest
    (tmp_path / name).unlink()
    for read in (load_model, model_digest):
        with pytest.raises(InputError, match=rf"{name} is missing; .*`dvc repro`"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("file", "damage", "expected"),
    [
        ("config.json", lambda text: "{", r"config\.json does not describe a model \(it is not JSON\)"),
        ("config.json", lambda text: "[]", "config.json does not describe a model"),
        ("config.json", lambda text: "{}", r"config\.json does not describe a model \(model: Field required\)"),
        ("config.json", lambda text: text.replace('"lstm"', '"cell"'), "model.cell: Input should be 'rnn'"),
        ("config.json", lambda text: text.replace(": 30", ': "30"'), "vocabulary_size: Input should be a valid int"),
        ("config.json", lambda text: text.replace("lowercase", "uppercase"), "text.lowercase: Field required"),
        ("config.json", lambda text: text.replace('"text"', '"more": 1, "text"'), "more: Extra inputs"),
        ("config.json", lambda text: text.replace(": 30", ": 31"), "vocabulary.tsv holds 30 words, the model has 31"),
        ("config.json", lambda text: text.replace('size": 12', 'size": 13'), "model.safetensors holds other weights"),
        (
            "vocabulary.tsv",
            lambda text: text.replace("w5", "w6"),
            "'w6' is there twice, .*; .*`dvc repro`",
        ),
        ("vocabulary.tsv", lambda text: text[:-3], "the last line is cut off; .*`dvc repro`"),
        ("model.safetensors", lambda text: "no such thing", "model.safetensors is not a safetensors file"),
    ],
)
def test_what_is_damaged_or_does_not_fit_is_said_on_one_line(
    file: str, damage: Callable[[str], str], expected: str, tmp_path: Path
) -> None:
    save_model(saved_model(build()), tmp_path)
    path = tmp_path / file
    path.write_text(damage("" if file == "model.safetensors" else path.read_text()))
    with pytest.raises(InputError, match=expected) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_of_an_earlier_version_is_named_with_the_command_that_migrates_it(tmp_path: Path) -> None:
    saved = saved_model(build())
    save_model(saved, tmp_path)
    digest = as_commit_726b98c(tmp_path)
    with pytest.raises(InputError, match=r"earlier version, which kept the vocabulary elsewhere; run `dvc repro`$"):
        load_model(tmp_path)
    # As that commit computed it, so that the model's run is found by its tag.
    assert model_digest(tmp_path) == digest
    # And with its vocabulary beside it, as data/warm_start has it, it can be started from.
    saved.vocabulary.save(tmp_path / "vocabulary.tsv")
    config = read_config(tmp_path)
    assert config.model == saved.model.params
    assert read_vocabulary(tmp_path, config).tokens == saved.vocabulary.tokens
    weights, expected = read_weights(tmp_path, config).state_dict(), saved.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.tsv"])
def test_a_file_of_another_model_of_the_same_shape_is_refused(name: str, tmp_path: Path) -> None:
    """Old weights with new words of the same number would say something, and nobody would know what."""
    first = saved_model(build())
    words = [token if token.isupper() else f"{token}x" for token in first.vocabulary.tokens]
    second = SavedModel(build(seed=2), Vocabulary(words, first.vocabulary.counts), first.text, first.train)
    for number, saved in enumerate((first, second)):
        save_model(saved, tmp_path / str(number))
    (tmp_path / "0" / name).write_bytes((tmp_path / "1" / name).read_bytes())
    with pytest.raises(InputError, match=rf"{name} is not the file that config\.json beside it describes; .*`dvc"):
        load_model(tmp_path / "0")
