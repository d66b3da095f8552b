"""A split as a network reads it, in its order, block by block: as it is, or learning from what it has read.

Learning is dynamic evaluation in its plain form (Mikolov et al. 2010, "Recurrent neural network based language model";
Krause, Kahembwe, Murray and Renals 2018, arXiv:1709.07432, equation 2): the text is cut into short segments; a segment
is scored first, and then the weights take a step against the gradient of what it cost,

    theta <- theta - rate * d/d theta (sum of -ln P(word) over the segment) / SEGMENT

so that no word is scored by weights that have seen it. In running text a segment is `SEGMENT` words, and the gradient
goes back to where it begins; a model of sentences takes a step after each.

Shape suffixes: N rows of a batch, R rows of a block, C words of the vocabulary, H hidden units.
"""

import copy
import hashlib
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.model.arithmetic import add_product, column_sums, product
from pipeline.model.batches import Sentences
from pipeline.model.cells import State
from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Precision
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.model.params import Context
from pipeline.model.streams import Carried, Windows
from pipeline.text.encoded import EncodedSplit

READ_TOKENS = 8192  # whose states are computed together
LOGITS = 1 << 20  # at a time: they stay in the processor's cache
KEPT_BYTES = 1 << 28  # of states; those of Penn Treebank's test text and 800 units
SEGMENT = 20  # words, after which dynamic evaluation takes a step


class ReadOnce(LanguageModel):
    """A model, in evaluation mode, that keeps up to `KEPT_BYTES` of what it has read.

    Of that, no batch runs twice after the same states. A text from end to end is a step for each word, one after
    another, and what scores it, shows its words and adapts to it reads the same states. Nothing is kept with gradients,
    as the weights may change, nor of a text that is read in parts.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model.params, model.vocabulary_size)
        _take_weights(self, model)
        self._kept: dict[bytes, tuple[Tensor, list[State] | None]] = {}
        self._bytes = 0

    def __deepcopy__(self, memo: object) -> LanguageModel:
        """A copy may learn, so it keeps nothing."""
        return _take_weights(LanguageModel(self.params, self.vocabulary_size), self)

    def read(
        self,
        batch: PackedBatch,
        carried: Carried | None,
        generator: torch.Generator | None = None,
        precision: Precision = "exact",
    ) -> Tensor:
        """As of any model."""
        in_parts = carried is not None and batch.batch_sizes[0] > 1
        if in_parts or torch.is_grad_enabled() or precision != "exact":
            return super().read(batch, carried, generator, precision)
        key = _key(batch, carried)
        if key in self._kept:
            h_NH, states = self._kept[key]
            if carried is not None and states is not None:
                carried.keep(states)
            return h_NH
        h_NH = super().read(batch, carried, generator, precision)
        if self._bytes + h_NH.nbytes <= KEPT_BYTES:
            self._bytes += h_NH.nbytes
            self._kept[key] = h_NH, None if carried is None else carried.states
        return h_NH


def _take_weights(model: LanguageModel, of: LanguageModel) -> LanguageModel:
    model.to(of.output_weight).load_state_dict(of.state_dict())
    return model.eval()


def _key(batch: PackedBatch, carried: Carried | None) -> bytes:
    """What a reading depends on, but for the model."""
    found = hashlib.sha256(repr((batch.batch_sizes, carried is None)).encode())
    states = [] if carried is None else carried.states or []
    parts = [part for state in states for part in (state if isinstance(state, tuple) else (state,))]
    for tensor in (batch.x_N, *parts):
        found.update(tensor.cpu().numpy().tobytes())
    return found.digest()


class Block(NamedTuple):
    """Predicted tokens of a split that follow one another, before any of them has changed the model."""

    h_RH: Tensor  # what the output layer reads
    logits_RC: Tensor
    y_R: Tensor  # int64: the targets


@torch.no_grad()
def read(model: LanguageModel, split: EncodedSplit, context: Context, streams: int = 1) -> Iterator[Block]:
    """The blocks of a split, in order, by a model in evaluation mode.

    Args:
        model: which reads as `context` says.
        split: what it reads.
        context: each sentence from state zero, or the split as one text.
        streams: parts of such a text that are read in parallel, which is faster; all but the first begin at state zero.
            With more than one, the states of all tokens exist at once.
    """
    rows = max(1, LOGITS // model.vocabulary_size)
    for h_NH, y_N in _sentences(model, split) if context == "sentence" else _text(model, split, streams):
        for h_RH, y_R in zip(h_NH.split(rows), y_N.split(rows), strict=True):
            yield Block(h_RH, _logits(model, h_RH), y_R)


def read_dynamically(model: LanguageModel, split: EncodedSplit, context: Context, rate: float) -> Iterator[Block]:
    """As `read`, by a copy of the model that learns from each block when the next one is asked for."""
    model, device = copy.deepcopy(model), model.output_weight.device
    alone = [np.array([number]) for number in range(len(split))]
    segments = Sentences(split, alone) if context == "sentence" else Windows(split, 1, repeat(SEGMENT))
    carried = Carried() if context == "stream" else None
    for segment in segments:
        batch = segment.to(device)
        with torch.enable_grad():
            h_RH = model.read(batch, carried)
        logits_RC = _logits(model, h_RH)
        yield Block(h_RH.detach(), logits_RC, batch.y_N)
        _learn(model, h_RH, logits_RC, batch.y_N, rate)


@torch.no_grad()
def _learn(model: LanguageModel, h_RH: Tensor, logits_RC: Tensor, y_R: Tensor, rate: float) -> None:
    """Take the step, by the gradient of the output layer written out: probabilities, less 1 at the target."""
    step_RC = torch.softmax(logits_RC, 1)
    step_RC[torch.arange(len(y_R), device=y_R.device), y_R] -= 1
    step_RC *= -rate / SEGMENT
    model.zero_grad()
    h_RH.backward(product(step_RC, model.output_weight))
    add_product(model.output_weight, step_RC.t(), h_RH.detach())
    if model.c is not None:
        model.c.add_(column_sums(step_RC))
    for weight in model.parameters():
        if weight.grad is not None:
            weight.add_(weight.grad)


@torch.no_grad()
def _logits(model: LanguageModel, h_RH: Tensor) -> Tensor:
    logits_RC = product(h_RH, model.output_weight.t())
    return logits_RC if model.c is None else logits_RC + model.c


def _sentences(model: LanguageModel, split: EncodedSplit) -> Iterator[tuple[Tensor, Tensor]]:
    """States and targets of neighbouring sentences, in order."""
    device, ends_S = model.output_weight.device, np.cumsum(split.lengths)
    starts_S = ends_S - split.lengths
    for sentences in np.split(np.arange(len(split)), np.flatnonzero(np.diff(ends_S // READ_TOKENS)) + 1):
        batch = pack(split, sentences)
        step_N, sequence_N = steps_and_sequences(batch.batch_sizes)
        # The row of each token: `pack` lays out steps, of the longest sentence first.
        row_N = np.argsort(starts_S[batch.order][sequence_N] + step_N)
        yield model.read(batch.to(device), None)[row_N], batch.y_N[row_N].to(device)


def _text(model: LanguageModel, split: EncodedSplit, streams: int) -> Iterator[tuple[Tensor, Tensor]]:
    """States and targets of a text from end to end: window by window, or of many streams all at once."""
    device, carried = model.output_weight.device, Carried()
    windows = Windows(split, streams, repeat(-(-READ_TOKENS // streams)))
    parts = []
    for window in windows:
        batch = window.to(device)
        h_NH = model.read(batch, carried)
        if streams == 1:
            yield h_NH, batch.y_N
        else:
            parts.append((h_NH, batch.y_N))
    if parts:
        row_N = np.argsort(np.concatenate([windows.tokens(index) for index in range(len(windows))]))
        h_NH, y_N = (torch.cat(both)[row_N] for both in zip(*parts, strict=True))
        yield h_NH, y_N
