"""The output layer in training and scoring: softmax and cross-entropy, full or sampled.

Full: at the default size the output layer is 96% of a model's arithmetic, and all logits at once (rows x vocabulary)
are its largest tensor by far. Here blocks of rows go through product, softmax and both gradient products while they
are in the processor's cache, so no more than an eighth of the logits ever exists.

Sampled (training only): the softmax over the distinct targets of the batch and some drawn words, importance sampling
after Bengio and Senecal 2008 and Jean et al. 2015 (arXiv:1412.2007). A drawn word stands for all those that were
not drawn: its logit is lowered by the logarithm of the probability that it is included, so that the sum of the
exponentials, given the batch, has the full sum as its expectation. A target is always included: its logarithm is 0.

Shape suffixes: N rows, R rows of one block, C words of the vocabulary (or the included ones), H hidden units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

Precision = Literal["fp32", "bf16", "auto"]

IGNORED = -100  # a target that counts for nothing, as in torch.nn.functional.cross_entropy
BLOCK_BYTES = 4 << 20  # of logits: a block stays in the cache from the product to the gradients
FEWEST_BLOCKS = 9  # so that a block, and what little it needs besides, is less than an eighth of all logits


@dataclass(frozen=True)
class Scores:
    """What the model says of each row's target.

    Attributes:
        nats_N: -ln P(target), float32.
        rank_N: how many words are more probable than the target, int64: 0 where the best guess is right.
    """

    nats_N: Tensor
    rank_N: Tensor


class Sampler:
    """Which words stand for the vocabulary in a step of training with the sampled softmax.

    Args:
        counts: how often each word is a target in the training split, by id.
        words: how many words are drawn at each step; with the vocabulary's size or more, all are, each once.
        power: words are drawn in proportion to this power of their count.
        seed: draws are a function of (seed, step) alone.
    """

    def __init__(self, counts: Sequence[int], words: int, power: float, seed: int) -> None:
        # A word never seen as a target is still a competitor, so it counts as seen once.
        weight_C = np.maximum(np.asarray(counts, dtype=np.float64), 1.0) ** power
        self._inclusion_C = _inclusion_probabilities(weight_C, words)
        self._steps_C = np.cumsum(self._inclusion_C)
        self._seed = seed
        self.log_inclusion_C = torch.from_numpy(np.log(self._inclusion_C).astype(np.float32))

    def draw(self, step: int) -> Tensor:
        """Ids of the words drawn for one step, distinct and rising, int64.

        Systematic sampling (Madow 1949): words laid in a row, each as long as its probability; one random start, then a
        word wherever a whole number of lengths has passed. Each word's probability is exact, no word is drawn twice.
        """
        start = np.random.default_rng([self._seed, step]).random()
        points = np.arange(start, self._steps_C[-1], 1.0)
        drawn = np.searchsorted(self._steps_C, points, side="right")
        return torch.from_numpy(np.unique(np.minimum(drawn, len(self._steps_C) - 1)))


def _inclusion_probabilities(weight_C: np.ndarray, words: int) -> np.ndarray:
    """Probabilities in proportion to the weights, none above 1, that add up to `words`."""
    if words >= len(weight_C):
        return np.ones(len(weight_C))
    certain = np.zeros(len(weight_C), dtype=bool)
    while True:
        rest = words - certain.sum()
        probability_C = np.where(certain, 1.0, weight_C * (rest / weight_C[~certain].sum()))
        if not (above := (probability_C > 1.0)).any():
            return probability_C
        certain |= above


def cross_entropy(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor, precision: Precision = "fp32") -> Tensor:
    """Mean of -ln softmax(V h + c)[y] over the rows whose target is not IGNORED, in nats; a scalar float32.

    The gradients are computed along with the value and handed over by the first `backward`; there is no second.

    Args:
        h_NH: hidden states (N, H).
        V_CH: output weight (C, H).
        c_C: output bias (C,) or None.
        y_N: targets (N,), int64.
        precision: of the products; sums are float32 (float64 for float64 input) in any case.
    """
    h_NH, y_N = _without_ignored(h_NH, y_N)
    return _CrossEntropy.apply(h_NH, V_CH, c_C, y_N, uses_bf16(precision, h_NH.device))


def sampled_cross_entropy(
    h_NH: Tensor,
    V_CH: Tensor,
    c_C: Tensor | None,
    y_N: Tensor,
    sampler: Sampler,
    step: int,
    precision: Precision = "fp32",
) -> Tensor:
    """As `cross_entropy`, over the distinct targets and the words that `sampler` draws for `step` instead of all."""
    h_NH, y_N = _without_ignored(h_NH, y_N)
    targets = torch.unique(y_N)
    words = torch.unique(torch.cat((targets, sampler.draw(step).to(y_N.device))))
    correction = -sampler.log_inclusion_C.to(h_NH)[words]
    correction[torch.searchsorted(words, targets)] = 0.0
    bias = correction if c_C is None else correction + c_C.index_select(0, words)
    rows = embedding(words, V_CH)
    return _CrossEntropy.apply(h_NH, rows, bias, torch.searchsorted(words, y_N), uses_bf16(precision, h_NH.device))


def score(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor) -> Scores:
    """Each row's loss in nats and its target's rank under the full softmax, in float32, in blocks of rows."""
    nats_N = torch.empty(len(h_NH), dtype=h_NH.dtype, device=h_NH.device)
    rank_N = torch.empty(len(h_NH), dtype=torch.int64, device=h_NH.device)
    for rows, logits_RC in _blocks_of_logits(h_NH, V_CH, c_C):
        target_R1 = logits_RC.gather(1, y_N[rows].unsqueeze(1))
        rank_N[rows] = (logits_RC > target_R1).sum(1)
        nats_N[rows] = logits_RC.logsumexp(1) - target_R1.squeeze(1)
    return Scores(nats_N, rank_N)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether products are made in bf16: asked for, or `auto` and the processor or GPU multiplies it in hardware."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor, bf16: bool) -> Tensor:
        total = h_NH.new_zeros(())
        dh_NH, dV_CH = torch.empty_like(h_NH), torch.zeros_like(V_CH)
        dc_C = torch.zeros_like(c_C) if c_C is not None and ctx.needs_input_grad[2] else None
        for rows, p_RC in _blocks_of_logits(h_NH, V_CH, c_C, bf16):
            h_RH, dh_RH, y_R1 = h_NH[rows], dh_NH[rows], y_N[rows].unsqueeze(1)
            largest_R1 = p_RC.amax(1, keepdim=True)
            target_R1 = p_RC.gather(1, y_R1)
            sum_R1 = p_RC.sub_(largest_R1).exp_().sum(1, keepdim=True)
            total += (largest_R1 + sum_R1.log() - target_R1).sum()
            # The gradient by the logits is p / sum, less 1 at the target; dividing the products' other sides instead
            # saves a pass over the block.
            p_RC.scatter_add_(1, y_R1, -sum_R1)
            _multiply(p_RC, V_CH, dh_RH, bf16)
            dh_RH /= sum_R1
            _multiply_add(p_RC.t(), h_RH / sum_R1, dV_CH, bf16)
            if dc_C is not None:
                dc_C.addmv_(p_RC.t(), sum_R1.squeeze(1).reciprocal())
        ctx.gradients, ctx.rows = (dh_NH, dV_CH, dc_C), len(h_NH)
        return total / len(h_NH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.gradients is None:
            raise RuntimeError("cross_entropy: backward runs once; compute the loss again for a second")
        # Scaled in place and let go, so that the largest of them, by V, exists once.
        gradients, ctx.gradients = ctx.gradients, None
        scale = grads[0] / ctx.rows
        return (*(None if gradient is None else gradient.mul_(scale) for gradient in gradients), None, None)


def _blocks_of_logits(
    h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, bf16: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their logits (R, C) in a buffer that the next block overwrites."""
    N, C = len(h_NH), len(V_CH)
    R = -(-N // max(FEWEST_BLOCKS, -(-N * C * h_NH.element_size() // BLOCK_BYTES)))
    buffer = h_NH.new_empty(R, C)
    for start in range(0, N, R):
        rows = slice(start, min(start + R, N))
        logits_RC = buffer[: rows.stop - start]
        _multiply(h_NH[rows], V_CH.t(), logits_RC, bf16)
        if c_C is not None:
            logits_RC += c_C
        yield rows, logits_RC


def _multiply(a: Tensor, b: Tensor, out: Tensor, bf16: bool) -> None:
    """out = a @ b."""
    if bf16:
        out.copy_(a.bfloat16() @ b.bfloat16())
    else:
        torch.mm(a, b, out=out)


def _multiply_add(a: Tensor, b: Tensor, out: Tensor, bf16: bool) -> None:
    """out += a @ b."""
    if bf16:
        out += a.bfloat16() @ b.bfloat16()
    else:
        out.addmm_(a, b)


def _without_ignored(h_NH: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
    kept = (y_N != IGNORED).nonzero().squeeze(1)
    if len(kept) == len(y_N):
        return h_NH, y_N
    return h_NH.index_select(0, kept), y_N[kept]
