"""A training that begins with the weights of an earlier model, word by word, where the two have the same shape."""

from pathlib import Path

import torch

from pipeline.model.language_model import LanguageModel, load_model, model_digest
from pipeline.model.params import ModelParams
from pipeline.runtime.errors import InputError
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary

FOLDER = Path("data/warm_start")  # a model and its vocabulary.tsv, if trainings do not begin with random weights
NAMES = "warm_start.json"  # what the stage `warm_start` was asked for
WITHOUT_SHAPE = {"dropout", "lookup_init"}


def model_files(folder: Path = FOLDER) -> list[Path]:
    """The model that trainings begin with, and its vocabulary; no file where the first weights are random.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; run `dvc repro warm_start`")
    return sorted(path for path in folder.iterdir() if path.name != NAMES)


def first_weights_of(params: ModelParams, folder: Path = FOLDER) -> str | None:
    """The `model_digest` of the model that trainings of this shape begin with; None: with random weights.

    Raises:
        InputError: a file in the folder is missing or damaged.
    """
    if not folder.is_dir() or not model_files(folder) or _differences(load_model(folder).params, params):
        return None
    return model_digest(folder)


@torch.no_grad()
def warm_start(model: LanguageModel, vocabulary: Vocabulary, folder: Path = FOLDER) -> str | None:
    """Give a fresh model the weights of the one in `folder`; words that are new there keep their random ones.

    Args:
        model: changed in place.
        vocabulary: its C tokens.
        folder: as the stage `warm_start` leaves it.

    Returns:
        What was done, in a sentence; None where the folder has no model.

    Raises:
        InputError: the folder is missing, or one of its files, or one is damaged.
    """
    if not model_files(folder):
        return None
    before, words = load_model(folder), Vocabulary.load(folder / "vocabulary.tsv")
    if before.vocabulary_size != len(words):
        raise InputError(f"{folder}: the model has {before.vocabulary_size} words, vocabulary.tsv {len(words)}")
    other = _differences(before.params, model.params)
    if other:
        return f"starts from random weights, as the model in {folder} has {', '.join(other)}"
    ids = _ids_there(vocabulary, words)
    known = ids >= 0
    earlier = before.state_dict()
    for name, weight in model.state_dict().items():  # these share the memory of the model's own
        if _has_a_row_a_word(name, model):
            weight[known] = earlier[name][ids[known]].to(weight)
        else:
            weight.copy_(earlier[name])
    return f"starts from the weights in {folder}, which knows {int(known.sum()):,} of the {len(vocabulary):,} words"


def _differences(there: ModelParams, here: ModelParams) -> list[str]:
    before, now = (params.model_dump(exclude=WITHOUT_SHAPE) for params in (there, here))
    return [f"{key} {before[key]}, not {now[key]}" for key in before if before[key] != now[key]]


def _ids_there(vocabulary: Vocabulary, words: Vocabulary) -> torch.Tensor:
    """The id in `words` of every id of `vocabulary`, int64 (C,); -1 for words that are not there."""
    ids = words.encode(vocabulary.tokens)
    ids = [-1 if id_ == words.unknown_id else id_ for id_ in ids]
    # Special by their place, whatever a word is spelled like.
    ids[START_ID], ids[END_ID], ids[vocabulary.unknown_id] = START_ID, END_ID, words.unknown_id
    return torch.tensor(ids)


def _has_a_row_a_word(name: str, model: LanguageModel) -> bool:
    return name in ("E", "V", "c") or (name == "layers.0.U" and model.E is None)
