"""A running average of the weights, which is validated and kept in place of them (Polyak and Juditsky 1992).

Each is average += share * (weights - average) after a step, and only the share differs. So it is a function of the step
and the history, and the average alone is state.

- **last**: the mean over the last `average_share` of all steps.
- **exponential**: weights of i steps ago count in proportion to `average_decay` to the power of i. The mean begins with
  the first step, as with Adam's bias correction, so the random first weights have no part in it.
- **triggered**: NT-ASGD (Merity, Keskar and Socher 2017, arXiv:1708.02182, algorithm 1): the mean over all steps from
  when validation stops improving. As in their code, that is after the first epoch which is worse than the best of
  those that are more than `average_patience` epochs older. (Their mean has the weights at that point in it, too; that
  of torch's ASGD, which their code runs, begins two steps after them.)
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.training.history import EpochRecord
from pipeline.training.params import TrainParams


def share_of_step(params: TrainParams, step: int, total_steps: int, history: Sequence[EpochRecord]) -> float | None:
    """How much of the weights after the step with this number, from 1, goes into the average; None: no average yet.

    `total_steps` is how many a training run takes that is not stopped early, `history` the epochs that ended before.
    """
    if params.average_decay is not None:
        return (1 - params.average_decay) / (1 - params.average_decay**step)
    begin = None  # the number of the last step before the mean
    if params.average_share is not None:
        begin = min(math.floor((1 - params.average_share) * total_steps), total_steps - 1)
    elif params.average_patience is not None:
        begin = triggered(history, params.average_patience)
    return None if begin is None or step <= begin else 1 / (step - begin)


def triggered(history: Sequence[EpochRecord], patience: int) -> int | None:
    """After how many steps averaging begins; None: not yet."""
    for epoch, record in enumerate(history):
        older = [earlier.valid_nats for earlier in history[: max(epoch - patience, 0)]]
        if older and record.valid_nats > min(older):
            return record.steps
    return None


def update(average: dict[str, Tensor], model: LanguageModel, share: float) -> None:
    """Put so much of the weights of `model` into an average, which is empty before the first."""
    for name, weight in model.state_dict().items():
        if name in average:
            # One operation at a time: fused ones round otherwise, and where depends on the number of threads.
            average[name].add_((weight - average[name]).mul_(share))
        else:
            average[name] = weight.clone()


def with_weights(model: LanguageModel, average: dict[str, Tensor]) -> LanguageModel:
    """A copy of `model` with averaged weights; `model` itself where there is no average."""
    if not average:
        return model
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.load_state_dict(average)
    return copied
