"""Learning rates, step by step: functions of what is known anyway, so no state of a schedule has to be kept.

Every schedule but `halving` rises first, linearly over the share `warmup` of all steps, to the peak. From there

- **cosine** falls along half a wave to 0 (Loshchilov and Hutter 2017, "SGDR", arXiv:1608.03983, without restarts).
  With its warm-up that is the shape of one-cycle (Smith and Topin 2018, arXiv:1708.07120), which so is no option.
- **linear** falls along a straight line to 0.
- **step** stays for the first `decay_after` epochs and is then divided by `decay_factor` at each (Zaremba, Sutskever
  and Vinyals 2014, arXiv:1409.2329).
- **constant** stays.

**halving** is the WildML tutorial's: half the rate each time the training loss rises from one epoch to the next.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from pipeline.training.history import EpochRecord
from pipeline.training.params import TrainParams


def learning_rate(params: TrainParams, step: int, total_steps: int, history: Sequence[EpochRecord]) -> float:
    """The learning rate of one optimiser step, before which `step` were taken and the epochs of `history` ended.

    `total_steps` is how many a training run takes that is not stopped early.
    """
    if params.schedule_in_use == "halving":
        rises = sum(after.train_nats > before.train_nats for before, after in itertools.pairwise(history))
        return params.learning_rate * 0.5**rises
    rate = params.learning_rate * warmup_and_decay(step, total_steps, params.warmup, DECAYS[params.schedule_in_use])
    if params.decay_after is not None and params.decay_factor is not None:
        rate /= params.decay_factor ** max(0, len(history) + 1 - params.decay_after)
    return rate


def cosine(share: float) -> float:
    """Factor on the peak rate where this share of the way down is behind."""
    return 0.5 * (1 + math.cos(math.pi * share))


# `step` is constant but for what the epochs do.
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": lambda share: 1 - share,
    "step": lambda _: 1.0,
    "constant": lambda _: 1.0,
}


def warmup_and_decay(step: int, total_steps: int, warmup: float, decay: Callable[[float], float] = cosine) -> float:
    """Factor on the peak rate: up linearly over the share `warmup` of all steps, then as `decay` says.

    The first step is already above 0 and the last still is: no step is wasted.
    """
    rising = warmup * total_steps
    if step < rising:
        return (step + 1) / (math.ceil(rising) + 1)
    return decay((step - rising) / (total_steps - rising))
