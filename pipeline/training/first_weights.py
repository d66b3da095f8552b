"""A training run that begins with the weights of an earlier model, word by word, where the two have the same shape."""

from pathlib import Path

import torch

from pipeline.model.folder import Config, model_digest, read_config, read_vocabulary, read_weights
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import Context, ModelParams
from pipeline.model.streams import context_of
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import WARM_START, WARM_START_REQUEST
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.training.params import TrainParams

WITHOUT_SHAPE = {"dropout", "lookup_init", "weight_init"}


def model_files(folder: Path = WARM_START) -> list[Path]:
    """The files of the model that training runs begin with; none where the first weights are random.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; run `dvc repro warm_start`")
    return sorted(path for path in folder.iterdir() if path.name != WARM_START_REQUEST.name)


def first_weights_of(params: ModelParams, folder: Path = WARM_START, context: Context = "sentence") -> str | None:
    """The `model_digest` of the model that such training runs begin with; None: with random weights.

    Raises:
        InputError: a file in the folder is missing, or config.json is damaged.
    """
    if not folder.is_dir() or not model_files(folder) or _differences(read_config(folder), params, context):
        return None
    return model_digest(folder)


def beginning(params: ModelParams, vocabulary: Vocabulary, train: TrainParams) -> tuple[LanguageModel, str | None]:
    """The model that a training run begins with, and what `warm_start` did to its random weights, of `train.seed`.

    Raises:
        InputError: as `warm_start`.
    """
    model = LanguageModel(params, len(vocabulary), torch.Generator().manual_seed(train.seed))
    return model, warm_start(model, vocabulary, context=train.context)


@torch.no_grad()
def warm_start(
    model: LanguageModel, vocabulary: Vocabulary, folder: Path = WARM_START, context: Context = "sentence"
) -> str | None:
    """Give a fresh model the weights of the one in `folder`; words that are new keep their random ones.

    `vocabulary` has the C tokens of the fresh model, which is trained in `context`; the folder is as the stage
    `warm_start` leaves it. A model of the other context has never read SENTENCE_START, or SENTENCE_END, so nothing is
    taken from it. Returns what was done, in a sentence; None where the folder has no model.

    Raises:
        InputError: the folder is missing, or one of its files, or one is damaged.
    """
    if not model_files(folder):
        return None
    config = read_config(folder)
    other = _differences(config, model.params, context)
    if other:
        return f"starts from random weights, as the model in {folder} has {', '.join(other)}"
    # Not `load_model`: a champion of commit 726b98c has all that this needs, and so gives the weights it gave then.
    ids = _ids_there(vocabulary, read_vocabulary(folder, config))
    known = ids >= 0
    earlier = read_weights(folder, config).state_dict()
    for name, weight in model.state_dict().items():  # these share the memory of the model's own
        a_row_per_word = name in ("E", "V", "c") or (name == "layers.0.U" and model.E is None)
        if a_row_per_word:
            weight[known] = earlier[name][ids[known]].to(weight)
        else:
            weight.copy_(earlier[name])
    return f"starts from the weights in {folder}, which knows {int(known.sum()):,} of the {len(vocabulary):,} words"


def _differences(there: Config, here: ModelParams, context: Context) -> list[str]:
    before, now = ({key: value for key, value in params if key not in WITHOUT_SHAPE} for params in (there.model, here))
    before["train.context"], now["train.context"] = context_of(there.train or {}), context
    return [f"{key} {before[key]}, not {now[key]}" for key in before if before[key] != now[key]]


def _ids_there(vocabulary: Vocabulary, words: Vocabulary) -> torch.Tensor:
    """The id in `words` of every id of `vocabulary`, int64 (C,); -1 for words that are not there."""
    ids = words.encode(vocabulary.tokens)
    ids = [-1 if id_ == words.unknown_id else id_ for id_ in ids]
    # These are special by their place, however a word is spelled.
    ids[START_ID], ids[END_ID], ids[vocabulary.unknown_id] = START_ID, END_ID, words.unknown_id
    return torch.tensor(ids)
