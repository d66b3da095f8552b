"""Models that are trained, kept beside the checkpoints: found by recipe and seed, whole or not at all."""

import os
from pathlib import Path

import pytest
import torch

from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.training.checkpoint import KEPT_TRAININGS
from pipeline.training.history import EpochRecord, write_history
from pipeline.training.trained import Trained
from tests.conftest import model_params, saved_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model."""
    folder = tmp_path / "model"
    model = LanguageModel(model_params(), 9, torch.Generator().manual_seed(1))
    save_model(saved_model(model), folder)
    write_history(folder / "history.csv", [EpochRecord(1, 4, 0.01, 2.5, 2.0, 7.39)])
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_kept_model_comes_back_for_its_recipe_and_seed_alone(model: Path, tmp_path: Path) -> None:
    Trained("lstm", "key", tmp_path / "kept").keep(2, model)
    again = Trained("lstm", "key", tmp_path / "kept")
    again.begin(2)
    assert not again.restore(1, tmp_path / "other")
    assert not Trained("lstm", "another", tmp_path / "kept").restore(2, tmp_path / "other")
    assert not Trained("gru", "key", tmp_path / "kept").restore(2, tmp_path / "other")
    assert again.restore(2, tmp_path / "back")
    assert files(tmp_path / "back") == files(model)


def test_a_stage_that_ended_trains_again_but_with_other_seeds_only_what_is_missing(model: Path, tmp_path: Path) -> None:
    trained = Trained("lstm", "key", tmp_path / "kept")
    trained.keep(1, model)
    trained.end(1)
    trained.begin(2)
    assert trained.restore(1, tmp_path / "back")
    trained.begin(1)
    assert not trained.restore(1, tmp_path / "back")


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv"])
def test_a_damaged_copy_is_not_used(name: str, model: Path, tmp_path: Path) -> None:
    trained = Trained("lstm", "key", tmp_path / "kept")
    trained.keep(1, model)
    path = tmp_path / "kept" / "lstm" / "key" / "1" / name
    path.write_bytes(path.read_bytes()[:-9] + b"?")
    assert not trained.restore(1, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    trained.keep(1, model)
    assert trained.restore(1, tmp_path / "back")


def test_the_newest_recipes_of_a_cell_are_kept(model: Path, tmp_path: Path) -> None:
    recipes = [Trained("lstm", str(number), tmp_path / "kept") for number in range(KEPT_TRAININGS + 1)]
    for number, trained in enumerate(recipes):
        trained.keep(1, model)
        os.utime(tmp_path / "kept" / "lstm" / str(number), (number, number))
    recipes[-1].end(1)
    kept = {path.name for path in (tmp_path / "kept" / "lstm").iterdir()}
    assert kept == {str(number) for number in range(1, KEPT_TRAININGS + 1)}
