"""All that a training is between two steps: what a checkpoint holds."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.training.history import EpochRecord


@dataclass
class TrainingState:
    """A training between two steps.

    Every epoch has equally many steps, so `step` also tells the epoch and the position in it.
    """

    model: LanguageModel
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimiser steps taken
    nats: float = 0.0  # training loss in the epoch under way, summed over its tokens
    tokens: int = 0  # predicted in the epoch under way
    history: list[EpochRecord] = field(default_factory=list)  # the epochs that are over
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # after the best of them
