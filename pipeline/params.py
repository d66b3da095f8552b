"""params.yaml as one checked value.

Each section's type lives with the package that reads it; this module puts them together, applies what each entry of
`cells` changes, and refuses what does not fit with one line a person can act on.
"""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from pipeline.evaluation.params import ENSEMBLE, EvaluateParams, parts_of
from pipeline.model.params import ModelParams
from pipeline.runtime.errors import InputError, one_line
from pipeline.runtime.paths import SEEDS_FOLDER
from pipeline.runtime.section import Section
from pipeline.text.params import DownloadParams, TokenizeParams, VocabularyParams
from pipeline.training.params import TrainParams, TrainSettings

CELL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
VERSION_NAME = re.compile(r"champion|challenger|v\d+")  # of the registered model, wherever a model is named
NAMED_TEXTS = 3  # that the warning names


@dataclass(frozen=True)
class CellParams:
    """One entry of `cells`, merged with the sections it overrides: a recipe, or the model of one of its seeds."""

    name: str
    model: ModelParams
    train: TrainSettings | TrainParams  # as written, or with numbers instead of `auto`
    seeds: int = 1  # models of this recipe: with train.seed, train.seed + 1, and so on
    first: bool = True  # whether it has the first of these seeds

    @property
    def each_seed(self) -> "list[CellParams]":
        """Of a recipe: its models, the first seed's first."""
        seeds = range(self.train.seed, self.train.seed + self.seeds)
        trained = [self.train.model_copy(update={"seed": seed}) for seed in seeds]
        return [replace(self, train=train, first=train is trained[0]) for train in trained]

    @property
    def folder(self) -> Path:
        """Where its model lies in data/models, and its figures in data/evaluation."""
        return Path(self.name) if self.first else Path(self.name, SEEDS_FOLDER, str(self.train.seed))


class RetrainParams(Section):
    """Section `retrain`: how a challenger is made, and what it needs to become champion without a person."""

    confidence: Annotated[float, Field(ge=0.5, le=1)]
    seed_sd: Literal["auto"] | Annotated[float, Field(ge=0)]
    better_than_ngram: bool
    worst_perplexity: Annotated[float, Field(gt=1)]
    largest_unknown_share: Annotated[float, Field(ge=0, le=1)]
    slowest_scoring: Annotated[float, Field(ge=0)]
    old_sentences: bool
    warm_start: bool


class Range(Section):
    """Numbers that a sweep draws from: whole ones where both ends are, evenly in the logarithm where `low` is not 0."""

    low: int | float
    high: int | float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 <= self.low < self.high:
            raise ValueError
        return self


def _searched(value: Any) -> Any:
    if value == "auto" or (isinstance(value, list) and value):
        return value
    with suppress(ValidationError):
        return Range.model_validate(value)
    raise ValueError(f"must be a list, {{low: A, high: B}} with 0 <= A < B, or auto, got {value!r}")


class TuneParams(Section):
    """Section `tune`: what `rnnlm tune` tries, by key of `cells`; pipeline/tuning/space.py says what `auto` is."""

    search: dict[str, Annotated[list[Any] | Range | Literal["auto"], PlainValidator(_searched)]]


class _File(Section):
    """params.yaml as written."""

    download: DownloadParams
    tokenize: TokenizeParams
    vocabulary: VocabularyParams
    model: ModelParams
    train: TrainSettings
    evaluate: EvaluateParams
    retrain: RetrainParams
    tune: TuneParams | None = None  # no stage reads it, so an older params.yaml does without
    cells: dict[str, dict[str, Any]]


class _Seeds(Section):
    """What an entry of `cells` may say beside keys of `model` and `train`."""

    seeds: Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True)
class Params:
    """All of params.yaml, checked; `cells` maps a name to its merged parameters."""

    download: DownloadParams
    tokenize: TokenizeParams
    vocabulary: VocabularyParams
    evaluate: EvaluateParams
    retrain: RetrainParams
    tune: TuneParams | None
    cells: dict[str, CellParams]

    def cell(self, name: str) -> CellParams:
        """The merged parameters of one cell.

        Raises:
            InputError: no such name in `cells`.
        """
        if name not in self.cells:
            raise InputError(f"no cell named {name!r} in params.yaml; it has: {', '.join(self.cells)}")
        return self.cells[name]


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml; a temporary experiment is told which text it lacks.

    Raises:
        InputError: the file is missing, is not YAML, or holds a key or value that does not fit.
    """
    params = check_params(read_params(path), str(path))
    if missing := _text_left_behind(params.download):
        named = ", ".join(map(str, missing[:NAMED_TEXTS])) + (", ..." if len(missing) > NAMED_TEXTS else "")
        print(
            f"warning: this experiment runs in a copy of the project without {named}, which neither git nor DVC "
            "tracks; `dvc add` the text and commit the .dvc file first if it is meant to count",
            file=sys.stderr,
            flush=True,
        )
    return params


def read_params(path: Path | str = "params.yaml") -> dict[str, Any]:
    """params.yaml as a mapping, its keys and values not yet checked.

    Raises:
        InputError: the file is missing, or is not a YAML mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run from the project's folder or restore it with git") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        content = YAML(typ="safe").load(text)  # as DVC does: YAML 1.2, by which 010 is ten and `yes` a word
    except (YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45, or brackets by the thousand
        raise InputError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold sections such as `download:` and `train:`, not {type(content).__name__}")
    return content


def check_params(content: dict[str, Any], where: str = "params.yaml") -> Params:
    """Check parameters that are already a mapping; `where` names them in errors.

    Raises:
        InputError: a key or value does not fit.
    """
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise InputError(_problems(error, where)) from None
    if not file.cells:
        raise InputError(f"{where}: cells is empty; name at least one, such as `lstm: {{cell: lstm}}`")
    cells = {name: _merge(name, changes, file, where) for name, changes in file.cells.items()}
    joined = {part for name in file.evaluate.adaptation for part in parts_of(name)}
    if ENSEMBLE in joined and all(cell.seeds == 1 for cell in cells.values()):
        raise InputError(
            f"{where}: evaluate.adaptation: {ENSEMBLE} needs several seeds: `seeds: 5` in an entry of `cells`"
        )
    return Params(file.download, file.tokenize, file.vocabulary, file.evaluate, file.retrain, file.tune, cells)


def at(params: Any, dotted: str) -> Any:
    """The value at a key such as `train.epochs`; None where there is none."""
    for key in dotted.split("."):
        params = params.get(key) if isinstance(params, Mapping) else None
    return params


def put(params: dict[str, Any], dotted: str, value: Any) -> None:
    """Set the value at a key such as `train.epochs`; a section that is missing is made.

    Raises:
        InputError: there is a value where the key names a section.
    """
    *sections, last = dotted.split(".")
    for section in sections:
        params = params.setdefault(section, {})
        if not isinstance(params, dict):
            raise InputError(f"{dotted}: {section} is a value, not a section of params.yaml")
    params[last] = value


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """The values inside of sections, by their dotted keys; the opposite of `at`."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        below = flat(value) if isinstance(value, Mapping) else {}
        found |= {f"{key}.{name}": leaf for name, leaf in below.items()} or {key: value}
    return found


def _text_left_behind(download: DownloadParams) -> list[Path]:
    """Files of the corpus that the user's own folder has, and this one lacks: DVC copies only what git or DVC track.

    `dvc exp run --temp` and queued experiments work in such a copy.
    """
    home = os.environ.get("DVC_ROOT")
    if download.source != "files" or not home or Path(home).resolve() == Path.cwd():
        return []
    corpus = Path(home, download.path)  # an absolute path or a URL is the same for both
    files = sorted(path for path in corpus.rglob("*") if path.is_file()) if corpus.is_dir() else [corpus]
    names = (path.relative_to(home) for path in files if path.is_file() and path.is_relative_to(home))
    return [name for name in names if not name.exists()]


def _merge(name: str, changes: dict[str, Any], file: _File, where: str) -> CellParams:
    if not CELL_NAME.fullmatch(name):
        raise InputError(f"{where}: cells: {name!r} is not a usable name; use letters, digits, - and _")
    if VERSION_NAME.fullmatch(name):
        raise InputError(f"{where}: cells: {name!r} is not a usable name: commands take it for a version of the model")
    sections: dict[str, dict[str, Any]] = {"model": dict(file.model), "train": dict(file.train)}
    for key, value in changes.items():
        owner = next((section for section in sections.values() if key in section), None)
        if owner is not None:
            owner[key] = value
        elif key != SEEDS_FOLDER:
            known = ", ".join([*(key for section in sections.values() for key in section), SEEDS_FOLDER])
            raise InputError(f"{where}: cells.{name}.{key}: unknown key; there are: {known}")
    try:
        model, train = ModelParams.model_validate(sections["model"]), TrainSettings.model_validate(sections["train"])
        seeds = _Seeds.model_validate({SEEDS_FOLDER: changes.get(SEEDS_FOLDER, 1)}).seeds
    except ValidationError as error:
        raise InputError(_problems(error, f"{where}: cells.{name}")) from None
    for key in ("dropped_words", "locked_dropout_embedding"):
        if getattr(train, key) and model.embedding_dim is None:
            raise InputError(f"{where}: cells.{name}: {key} needs an embedding: set embedding_dim, or it to 0")
    return CellParams(name, model, train, seeds)


def _problems(error: ValidationError, where: str) -> str:
    problems = []
    for problem in error.errors():
        if problem.get("ctx", {}).get("expected") == "'auto'":
            continue  # what else such a value may be has a problem of its own
        # Of a value that may be of two kinds, pydantic names the kind too.
        key = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("constrained-"))
        if problem["type"] == "extra_forbidden":
            message = "unknown key; check the spelling"
        elif problem["type"] == "missing":
            message = "is missing; params.yaml names every knob"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "value_error":
                message += f", got {problem['input']!r}"
        problems.append(f"{key}: {message}" if key else message)
    return f"{where}: {'; '.join(problems)}"
