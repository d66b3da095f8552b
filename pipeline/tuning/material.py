"""What a sweep works with: params.yaml, the encoded splits that it may see, and recipes as entries of `cells`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.params import CellParams, check_params, read_params
from pipeline.provenance.code import code_lines
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import ENCODED, MODELS, SEEDS_FOLDER, VOCABULARY
from pipeline.text.encoded import load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers, left_open
from pipeline.training.checkpoint import training_key
from pipeline.training.first_weights import model_files
from pipeline.training.history import best_cell
from pipeline.tuning.prepared import require_prepared, trained_cells
from pipeline.tuning.space import search_space

Recipe = dict[str, dict[str, Any]]  # the sections `model` and `train`, in numbers


class Material:
    """What lies in this folder: `project`, `vocabulary`, `train_split`, `valid_split`, and the `space` to search.

    Raises:
        InputError: the text is not prepared as params.yaml says, or its `tune` is missing or asks for what cannot be.
    """

    def __init__(self) -> None:
        self._content = read_params()
        self.project = check_params(self._content)
        if self.project.tune is None:
            raise InputError("params.yaml has no section `tune`, which says what to search; docs/tuning.md shows one")
        require_prepared(self._content)
        self.vocabulary = Vocabulary.load(VOCABULARY)
        self.train_split, self.valid_split = load_split(ENCODED / "train"), load_split(ENCODED / "valid")
        self.space = search_space(self.project.tune.search, self.train_split.tokens)

    @property
    def defaults(self) -> Recipe:
        """The sections `model` and `train` of params.yaml, as written there."""
        return {section: self._content[section] for section in ("model", "train")}

    @property
    def key(self) -> str:
        """The fingerprint of all that decides how a trial ends, and of what is searched."""
        data = [VOCABULARY, *sorted(ENCODED.glob("train/*")), *sorted(ENCODED.glob("valid/*")), *model_files()]
        searched = {key: choice if isinstance(choice, list) else dict(choice) for key, choice in self.space.items()}
        return training_key(code_lines("train", Path(__file__).parents[2]), data, self.defaults | {"search": searched})

    def cell(self, name: str, entry: Mapping[str, Any]) -> CellParams:
        """What an entry of `cells` is, with one seed, and numbers instead of `auto`.

        Raises:
            InputError: a key or value does not fit.
        """
        entry = {key: value for key, value in entry.items() if key != SEEDS_FOLDER}
        cell = check_params(self._content | {"cells": {name: entry}}).cell(name)
        return replace(cell, train=in_numbers(cell.train, cell.model, self.train_split.tokens))

    def recipe(self, entry: Mapping[str, Any]) -> Recipe:
        """What decides how a model of an entry is trained: equal for entries that mean the same."""
        cell = self.cell("entry", entry)
        return {"model": dict(cell.model), "train": dict(cell.train)}  # with options that are not used, too

    def in_full(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An entry with the numbers that `auto` came to, so that it means the same on other text."""
        train = self.cell("entry", entry).train
        settings = check_params(self._content | {"cells": {"entry": dict(entry)}}).cell("entry").train
        return {"epochs": train.epochs, **entry, **{key: getattr(train, key) for key in left_open(settings)}}

    def today(self) -> list[str]:
        """The names in `cells` of which one is today's best: the best of those that are trained, and all others."""
        trained = trained_cells(self._content)
        return [
            *([best_cell(MODELS, trained)] if trained else []),
            *(name for name in self.entries if name not in trained),
        ]

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries of `cells` in params.yaml, by name."""
        return self._content["cells"]
