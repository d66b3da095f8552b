"""A model on disk, whole: nothing but the three files of its folder is needed to use it.

    model.safetensors   the weights, without metadata, whose keys safetensors would write in random order
    config.json         its shape, its text rules, how it was trained, and the SHA-256 of the other two; sorted keys
    vocabulary.tsv      the words that it knows, as pipeline/text/vocabulary.py writes them

Commit 726b98c and those before it kept vocabulary and text rules elsewhere: their config.json is the shape and the size
of the vocabulary, without sections. It still counts as the same model (`model_digest`) and can be started from.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
from pydantic import Field, ValidationError, model_validator

from pipeline.model.language_model import LanguageModel
from pipeline.model.params import NEUTRAL_SHAPE, ModelParams
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, write_text
from pipeline.runtime.hashes import sha256
from pipeline.runtime.paths import CONFIG_FILE, MODEL_FILES, VOCABULARY_FILE, WEIGHTS_FILE
from pipeline.runtime.section import Section
from pipeline.text.params import TokenizeParams
from pipeline.text.vocabulary import Vocabulary

ADVICE = "train the model again (`dvc repro`) or restore the file (`dvc checkout`)"


class TextRules(Section):
    """How raw text became the tokens that a model was trained on; see `pipeline.text.tokenizer.Tokenizer`."""

    lowercase: bool
    by_character: Annotated[bool, Field(exclude_if=lambda by_character: not by_character)] = False

    @classmethod
    def of(cls, params: TokenizeParams) -> "TextRules":
        """Those that section `tokenize` says."""
        return cls(lowercase=params.lowercase, by_character=params.by_character)


class Config(Section):
    """What config.json holds; `text`, `train` and `files` are None where commit 726b98c wrote it."""

    model: ModelParams  # the shape
    text: TextRules | None
    train: dict[str, Any] | None  # section `train` as the model was trained with it
    vocabulary_size: int  # C
    files: dict[str, str] | None  # SHA-256 of the other two by name, so that no other model's is taken for its own

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:
        if isinstance(content, dict) and "cell" in content:  # of commit 726b98c
            shape = dict(content)
            size = shape.pop("vocabulary_size", None)
            content = {"files": None, "text": None, "train": None, "vocabulary_size": size, "model": shape}
        if isinstance(content, dict) and isinstance(content.get("model"), dict):
            content = {**content, "model": {**NEUTRAL_SHAPE, **content["model"]}}
        return content


@dataclass(frozen=True)
class SavedModel:
    """All that a model folder holds."""

    model: LanguageModel
    vocabulary: Vocabulary
    text: TextRules
    train: dict[str, Any]


def save_model(saved: SavedModel, folder: Path) -> None:
    """Write the files of a model into `folder`: the same model gives the same bytes."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in saved.model.state_dict().items()}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        safetensors.torch.save_file(weights, temporary)
    saved.vocabulary.save(folder / VOCABULARY_FILE)
    shape, size = saved.model.params, saved.model.vocabulary_size
    write_config(Config(files=None, model=shape, text=saved.text, train=saved.train, vocabulary_size=size), folder)


def write_config(config: Config, folder: Path) -> None:
    """Write config.json, for the other two files as they lie in the folder."""
    files = {name: sha256(folder / name) for name in (WEIGHTS_FILE, VOCABULARY_FILE)}
    config = config.model_copy(update={"files": files})
    write_text(folder / CONFIG_FILE, json.dumps(config.model_dump(), indent=2, sort_keys=True) + "\n")


def load_model(folder: Path) -> SavedModel:
    """The model that `save_model` wrote, in evaluation mode.

    Raises:
        InputError: a file is missing or damaged, the files do not belong together, or commit 726b98c wrote them.
    """
    config = read_config(folder)
    if config.text is None or config.train is None:
        raise InputError(f"{folder} is from an earlier version, which kept the vocabulary elsewhere; run `dvc repro`")
    vocabulary = read_vocabulary(folder, config)
    return SavedModel(read_weights(folder, config), vocabulary, config.text, config.train)


def read_config(folder: Path) -> Config:
    """The config.json of a model, also where commit 726b98c wrote it.

    Raises:
        InputError: it is missing, or does not describe a model.
    """
    path = folder / CONFIG_FILE
    try:
        return Config.model_validate(json.loads(_bytes(path)))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "its content"
        raise InputError(f"{path} does not describe a model ({where}: {problem['msg']}); {ADVICE}") from None
    except ValueError:
        raise InputError(f"{path} does not describe a model (it is not JSON); {ADVICE}") from None


def read_vocabulary(folder: Path, config: Config) -> Vocabulary:
    """The vocabulary of the model that `config` describes.

    Raises:
        InputError: its file is missing or damaged, or holds another number of words.
    """
    path = folder / VOCABULARY_FILE
    vocabulary = Vocabulary.load(path, ADVICE)
    _check_own(path, config)
    if len(vocabulary) != config.vocabulary_size:
        raise InputError(f"{path} holds {len(vocabulary)} words, the model has {config.vocabulary_size}; {ADVICE}")
    return vocabulary


def read_weights(folder: Path, config: Config) -> LanguageModel:
    """The model that `config` describes with its weights, in evaluation mode.

    Raises:
        InputError: their file is missing or damaged, or holds the weights of another shape.
    """
    path = folder / WEIGHTS_FILE
    try:
        weights = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {ADVICE}") from None
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}); {ADVICE}") from None
    _check_own(path, config)
    model = LanguageModel(config.model, config.vocabulary_size)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{path} holds other weights than {CONFIG_FILE} describes; {ADVICE}") from None
    return model.eval()


def model_digest(folder: Path) -> str:
    """SHA-256, in hex, of a saved model's bytes: what tells two models apart.

    Of a model of commit 726b98c it is that of weights and config.json, as in the tags that its run in MLflow has.

    Raises:
        InputError: a file is missing, or config.json does not describe a model.
    """
    digest = hashlib.sha256()
    for name in MODEL_FILES if read_config(folder).text else (WEIGHTS_FILE, CONFIG_FILE):
        digest.update(_bytes(folder / name))
    return digest.hexdigest()


def _check_own(path: Path, config: Config) -> None:
    if config.files is not None and config.files.get(path.name) != sha256(path):
        raise InputError(f"{path} is not the file that {CONFIG_FILE} beside it describes; {ADVICE}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {ADVICE}") from None
