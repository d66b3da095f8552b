"""What the page is made from: read and checked, as files of other models or of another text say nothing together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from pipeline.evaluation import results
from pipeline.evaluation.bands import RelativeBand
from pipeline.evaluation.matrix import Matrix
from pipeline.evaluation.words import (
    INSIDE_FILE,
    NOT_LOOKED,
    PLAIN_RNNS_FILE,
    WORDS_FILE,
    Words,
    read_words,
    same_words,
)
from pipeline.runtime.errors import InputError
from pipeline.text.tokens import read_tokens
from pipeline.training.history import EpochRecord


class Compared(NamedTuple):
    """What the report has read and computed, for the page."""

    evaluation_folder: Path
    models_folder: Path
    rows: Sequence[results.Row]
    histories: Mapping[str, Sequence[EpochRecord]]
    scores: Mapping[str, results.SavedScores]
    matrix: Matrix
    bands: Mapping[str, Sequence[RelativeBand]]
    norms: Mapping[str, Sequence[float]]
    samples: Mapping[str, Sequence[str]]
    resamples: int
    seed: int
    reference: str

    @property
    def networks(self) -> list[str]:
        """The names of the networks, in the order of params.yaml."""
        return list(self.histories)


class Inside(BaseModel):
    """What inside.json holds; inside.py says what that is."""

    gradient_at_start: Annotated[list[FiniteFloat], Field(min_length=1)]
    unit_numbers: list[int]
    units: dict[int, list[list[int]]]
    neighbours: dict[int, list[tuple[int, FiniteFloat]]]
    samples: dict[str, list[str]]


class _PlainRow(NamedTuple):
    """One row of plain_rnns.csv."""

    gradient: str
    lag: int
    gradient_norm: float


def words_of(compared: Compared, vocabulary_size: int) -> dict[str, Words]:
    """Of each network, and then of the reference, the words of the same sentences.

    Raises:
        InputError: a file is missing or damaged, or is not of the sentences that were scored.
    """
    folder, tokens_S = compared.evaluation_folder, compared.scores[compared.reference].tokens
    paths = {name: folder / name / WORDS_FILE for name in (*compared.networks, "baselines")}
    words = {name: read_words(path) for name, path in paths.items()}
    first = words["baselines"]
    for name, found in words.items():
        sentences, counts = np.unique(found.sentence, return_counts=True)
        whole = 0 <= sentences[0] <= sentences[-1] < len(tokens_S) and np.array_equal(tokens_S[sentences], counts)
        ids = np.concatenate([found.target, found.likeliest.ravel()])
        if not whole or ids.min() < NOT_LOOKED or ids.max() >= vocabulary_size or found.target.min() < 0:
            raise results.damaged(paths[name], "other words than the sentences that were scored")
        same_words(first, found, paths[name])
    if first.seen is None or first.seen.min() < 1:
        raise results.damaged(paths["baselines"], "no words of sentences")
    return {name: words[name] for name in compared.networks} | {compared.reference: first}


def inside_of(folder: Path, networks: Sequence[str], vocabulary_size: int) -> dict[str, Inside]:
    """What goes on inside each network, by its name; `folder` is data/evaluation.

    Raises:
        InputError: a file is missing or damaged, or they are not of the same sentences and words.
    """
    found = {}
    for name in networks:
        path = folder / name / INSIDE_FILE
        with results.named(path, "not what goes on inside a model"):
            found[name] = Inside.model_validate_json(path.read_text(encoding="utf-8"))
            first, told = found[networks[0]], found[name]
            ids = [*told.neighbours, *(one for near in told.neighbours.values() for one, _ in near)]
            if list(told.units) != list(first.units) or list(told.neighbours) != list(first.neighbours):
                raise ValueError("not of the same sentences and words as another model")
            if ids and not 0 <= min(ids) <= max(ids) < vocabulary_size:
                raise ValueError("a word that the vocabulary does not have")
    return found


def spelled_of(tokens: Path, wanted: set[int], words: Words) -> dict[int, list[str]]:
    """The words of sentences of the test split, by their index; None, an unknown word of the corpus, is `<unk>`.

    Raises:
        InputError: the file is missing or damaged, or its sentences are not those of `words`.
    """
    found, start = {}, 0
    for rows in read_tokens(tokens, "test"):
        for sentence in wanted:
            if start <= sentence < start + len(rows):
                found[sentence] = [word or "<unk>" for word in rows[sentence - start].as_py()]
        start += len(rows)
    for sentence in wanted:
        rows = words.rows(sentence)
        if len(found.get(sentence, ())) != rows.stop - rows.start - 1:
            raise InputError(f"{tokens} holds other sentences than were scored; run `dvc repro`")
    return found


def plain_rnns(folder: Path) -> dict[str, list[float]]:
    """The gradient norms by lag of the plain RNNs that nobody trained, by what it does; `folder` is data/evaluation.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / "baselines" / PLAIN_RNNS_FILE
    found: dict[str, list[float]] = {}
    for row in results.read_table(path, _PlainRow):
        if not math.isfinite(row.gradient_norm):
            raise results.damaged(path, "a gradient that is not a number")
        found.setdefault(row.gradient, []).append(row.gradient_norm)
    return found
