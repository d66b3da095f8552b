"""Optimisers and their learning rates.

Both schedules are functions of what is known anyway (the step, the history), so no schedule state has to be kept.
"""

import inspect
import itertools
import math
from collections.abc import Sequence

import torch

from pipeline.runtime.settings import optimize_without_compiler
from pipeline.training.history import EpochRecord
from pipeline.training.params import TrainParams


def build_optimizer(model: torch.nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """The optimiser that `params` names, over all parameters of `model`; weight decay spares the biases.

    `adamw` is Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), whose betas are those of Adam
    (Kingma and Ba 2015, arXiv:1412.6980); `sgd` plain gradient descent.
    """
    optimize_without_compiler()
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": params.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    # fused: one pass over the parameters instead of a dozen, 7 times faster on a CPU
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=params.learning_rate, betas=(params.betas[0], params.betas[1]), fused=True)
    return torch.optim.SGD(groups, lr=params.learning_rate, fused=True)


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """As `optimizer.step()`, whose wrappers would import torch's compiler first."""
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def learning_rate(params: TrainParams, step: int, total_steps: int, history: Sequence[EpochRecord]) -> float:
    """The learning rate of one optimiser step, before which `step` were taken and the epochs of `history` ended.

    `total_steps` is how many a training run takes that is not stopped early.
    """
    if params.optimizer == "adamw":
        return params.learning_rate * warmup_and_decay(step, total_steps, params.warmup)
    # The WildML tutorial halves its rate each time the training loss rises from one epoch to the next.
    rises = sum(after.train_nats > before.train_nats for before, after in itertools.pairwise(history))
    return params.learning_rate * 0.5**rises


def warmup_and_decay(step: int, total_steps: int, warmup: float) -> float:
    """Factor on the peak rate: up linearly over the share `warmup` of all steps, then down along a cosine to 0.

    The first step is already above 0 and the last still is: no step is wasted.
    """
    rising = warmup * total_steps
    if step < rising:
        return (step + 1) / (math.ceil(rising) + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total_steps - rising)))
