"""How far back a network can learn: the gradient of one word's loss by the states before it, all of each.

Training changes the weights by what the loss at word t says about the states before it. Each step back multiplies that
gradient by the Jacobian of the recurrence; where it shrinks, words far back teach nothing (Hochreiter 1991;
Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). An LSTM's state is s and c: what
it carries along passes through c, past s, so the gradient by s alone would make it look as forgetful as a plain RNN.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.model.output import cross_entropy
from pipeline.model.params import NEUTRAL_SHAPE, ModelParams
from pipeline.runtime.rows import write_rows
from pipeline.text.encoded import EncodedSplit

LAGS = 30
SENTENCES = 500  # at most: their mean is steady, and the measurement takes about a second
# What the gradient of a plain RNN does if its W is drawn so many times as large as usual.
PLAIN_RNNS = {"vanishes": 1.0, "explodes": 5.0}
FEWEST = 20  # sentences to average over; where fewer are long enough, fewer lags are measured


def gradient_norms(model: LanguageModel, split: EncodedSplit) -> np.ndarray:
    """Mean over sentences of the Euclidean norm of d loss_t / d state_{t-k}, for k = 0, 1, ...: float64 `(lags + 1,)`.

    loss_t is -ln P of the target after lags + 1 words (SENTENCE_START included), the first t that has all those states
    before it. The state is all that the last layer hands on, for the LSTM (s, c), whose norm is that of both together;
    at k = 0 the output layer reads s alone. `lags` is 30, or less where the split has not enough sentences that long;
    it has one at least. The model is in evaluation mode.
    """
    longest = np.sort(split.lengths)[::-1]
    lags = min(LAGS, int(longest[min(FEWEST, len(longest)) - 1]) - 1)
    starts_B = split.offsets[np.flatnonzero(split.lengths > lags)[:SENTENCES]]
    ids_BT = torch.from_numpy(split.ids[starts_B[:, None] + np.arange(lags + 2)].astype(np.int64))
    state = None
    wanted: list[Tensor] = []  # state_{t-lags}, ..., state_{t-1} as the next step reads them, each in one or two parts
    for step in range(lags):
        _, state = model.hidden(ids_BT[:, step], (len(ids_BT),), state)
        wanted += state[-1] if isinstance(state[-1], tuple) else (state[-1],)
    h_BH, _ = model.hidden(ids_BT[:, lags], (len(ids_BT),), state)
    # The sum over sentences: no state of one touches the loss of another, so each row's gradient is its own.
    loss = cross_entropy(h_BH, model.output_weight, model.c, ids_BT[:, lags + 1]) * len(ids_BT)
    *earlier, last = torch.autograd.grad(loss, [*wanted, h_BH])
    parts = len(earlier) // lags
    states = [torch.cat(earlier[step * parts : (step + 1) * parts], dim=1) for step in range(lags)]
    return np.array([gradient.double().norm(dim=1).mean().item() for gradient in reversed([*states, last])])


def plain_rnn_norms(vocabulary_size: int, split: EncodedSplit) -> dict[str, np.ndarray]:
    """`gradient_norms` of two plain RNNs of the notes' size that nobody trained: one vanishes, one explodes.

    They differ in nothing but the size of W. Each step back multiplies the gradient by W and by the slope of tanh, at
    most 1: so small weights shrink it at every step, and only large ones can make it grow.
    """
    shape = {"cell": "rnn", "hidden_size": 100, "embedding_dim": None, "layers": 1, "bias": False, "output_bias": False}
    params = ModelParams.model_validate(
        NEUTRAL_SHAPE | shape | {"tie_weights": False, "dropout": 0.0, "lookup_init": None}
    )
    found = {}
    for name, times in PLAIN_RNNS.items():
        model = LanguageModel(params, vocabulary_size, torch.Generator().manual_seed(1)).eval()
        with torch.no_grad():
            cast(Tensor, model.layers[0].W).mul_(times)
        found[name] = gradient_norms(model, split)
    return found


def write_gradient_norms(path: Path, norms: Sequence[float] | np.ndarray) -> None:
    """Write gradient_flow.csv: `lag,gradient_norm`, lags in words."""
    write_rows(path, ["lag", "gradient_norm"], ([lag, f"{norm:.6g}"] for lag, norm in enumerate(norms)))


def write_plain_rnn_norms(path: Path, found: Mapping[str, np.ndarray]) -> None:
    """Write plain_rnns.csv: `gradient,lag,gradient_norm`, of what `plain_rnn_norms` gives."""
    rows = ([name, lag, f"{norm:.6g}"] for name, norms in found.items() for lag, norm in enumerate(norms))
    write_rows(path, ["gradient", "lag", "gradient_norm"], rows)
