"""What `auto` in section `train` of params.yaml stands for: a table by the size of the training split.

On a small corpus an epoch has few steps, so it takes more epochs of smaller batches. The numbers did
well on validation sentences, mostly of one seed; docs/training.md has what `python -m benchmarks.corpus_size` measured.
"""

from typing import NamedTuple

from pipeline.model.params import ModelParams
from pipeline.training.params import TrainParams, TrainSettings


class Choice(NamedTuple):
    """The values of one row; keys are those of section `train`, but for the last."""

    epochs: int
    batch_tokens: int
    learning_rate: float
    one_hot: float  # the learning rate of an LSTM or GRU without an embedding


# From so many training tokens (SENTENCE_END counted) on; the last row holds for what is larger.
CHOICES = {
    0: Choice(epochs=10, batch_tokens=128, learning_rate=0.01, one_hot=0.01),
    60_000: Choice(epochs=5, batch_tokens=256, learning_rate=0.01, one_hot=0.01),
    600_000: Choice(epochs=3, batch_tokens=1024, learning_rate=0.015, one_hot=0.05),
}


# Of each optimiser, whatever the size: AdamW's is multiplied by the learning rate, so at a rate of 0.05 a decay of 0.03
# takes 0.15% of a weight a step; the tutorial's gradient descent has none.
WEIGHT_DECAY = {"adamw": 0.03, "sgd": 0.0}

AUTOMATIC = ("epochs", "batch_tokens", "learning_rate", "weight_decay")


def left_open(settings: TrainSettings | TrainParams) -> list[str]:
    """The keys that are `auto`."""
    return [key for key in AUTOMATIC if getattr(settings, key) == "auto"]


def in_numbers(settings: TrainSettings | TrainParams, model: ModelParams, tokens: int) -> TrainParams:
    """The settings of such a model with numbers instead of `auto`, for a training split of so many predicted tokens."""
    row = CHOICES[max(size for size in CHOICES if size <= tokens)]
    one_hot = model.cell != "rnn" and model.embedding_dim is None
    numbers = row._asdict() | {
        "learning_rate": row.one_hot if one_hot else row.learning_rate,
        "weight_decay": WEIGHT_DECAY[settings.optimizer],
    }
    values = {key: numbers[key] for key in left_open(settings)}
    return TrainParams.model_validate(dict(settings) | values)


def told(settings: TrainSettings | TrainParams, params: TrainSettings | TrainParams) -> str:
    """What was `auto` in `settings`, and its numbers in `params`, such as `epochs 3, weight_decay 0.03`."""
    unused = ("batch_tokens",) if params.context == "stream" else ()
    return ", ".join(f"{key} {getattr(params, key)}" for key in left_open(settings) if key not in unused)
