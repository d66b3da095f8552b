"""The output layer in training and scoring: softmax and cross-entropy, full or sampled.

Full: at the default size the output layer is 96% of a model's arithmetic, and all logits at once (rows x vocabulary)
are by far its largest tensor. Here blocks of rows go through product, softmax and both gradient products while they
are in the processor's cache; of logits that do not fit there, no more than an eighth ever exists at once.

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
from torch.nn import functional
from torch.nn.functional import embedding

from pipeline.model.arithmetic import add_product, column_sums, log, product, total

Precision = Literal["exact", "fp32", "bf16", "auto"]

BLOCK_BYTES = 4 << 20  # of logits: a block stays in the cache from the product to the gradients
IMPOSSIBLE = -1e4  # a logit whose exponential is 0
SHAPES = 64  # sizes of bf16 products are multiples of this
FEWEST_BLOCKS = 9  # of logits that do not fit: a block and the little else it needs are under an eighth


@dataclass(frozen=True)
class Scores:
    """What the model says of each row's target."""

    nats_N: Tensor  # float32: -ln P(target)
    rank_N: Tensor  # int64: how many words are more probable than the target, 0 where the best guess is right


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


def cross_entropy(
    h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor, precision: Precision = "exact"
) -> Tensor:
    """Mean of -ln softmax(V h + c)[y] over all rows, in nats; a scalar float32.

    The gradients are computed along with the value and handed over by the first `backward`; there is no second.

    Args:
        h_NH: hidden states (N, H).
        V_CH: output weight (C, H).
        c_C: output bias (C,) or None.
        y_N: targets (N,), int64.
        precision: of the products, `exact` as `fp32`; sums are float32 (float64 for float64 input) in any case.
    """
    return _CrossEntropy.apply(h_NH, V_CH, c_C, y_N, uses_bf16(precision, h_NH.device))


def sampled_cross_entropy(
    h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor, sampler: Sampler, step: int, precision: Precision
) -> Tensor:
    """As `cross_entropy`, over the distinct targets and the words that `sampler` draws for `step` instead of all."""
    targets = torch.unique(y_N)
    words = torch.unique(torch.cat((targets, sampler.draw(step).to(y_N.device))))
    correction = -sampler.log_inclusion_C.to(h_NH)[words]
    correction[torch.searchsorted(words, targets)] = 0.0
    bias = correction if c_C is None else correction + c_C.index_select(0, words)
    # Padded with copies of a word that cannot be chosen, so that few sizes are in use (see SHAPES).
    added = _rounded_up(len(words)) - len(words)
    rows = embedding(functional.pad(words, (0, added)), V_CH)
    bias = functional.pad(bias, (0, added), value=IMPOSSIBLE)
    return _CrossEntropy.apply(h_NH, rows, bias, torch.searchsorted(words, y_N), uses_bf16(precision, h_NH.device))


def score(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor) -> Scores:
    """Each row's loss in nats and its target's rank under the full softmax, in float32, in blocks of rows."""
    nats_N = torch.empty(len(h_NH), dtype=h_NH.dtype, device=h_NH.device)
    rank_N = torch.empty(len(h_NH), dtype=torch.int64, device=h_NH.device)
    for rows, logits_RC in _blocks_of_logits(h_NH, V_CH, c_C):
        target_R1 = logits_RC.gather(1, y_N[rows].unsqueeze(1))
        rank_N[rows] = (logits_RC > target_R1).sum(1)
        nats_N[rows] = functional.cross_entropy(logits_RC, y_N[rows], reduction="none")
    return Scores(nats_N, rank_N)


def nats(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor) -> Tensor:
    """Each row's loss in nats, as `score`, without the ranks, which take a third of the time; float32 (N,)."""
    blocks = _blocks_of_logits(h_NH, V_CH, c_C)
    return torch.cat([functional.cross_entropy(logits_RC, y_N[rows], reduction="none") for rows, logits_RC in blocks])


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
        work = _sums_and_gradients_bf16 if bf16 else _sums_and_gradients
        nats, *gradients = work(h_NH, V_CH, c_C, y_N)
        ctx.gradients, ctx.rows = gradients, len(h_NH)
        return nats / len(h_NH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        if ctx.gradients is None:
            raise RuntimeError("cross_entropy: backward runs once; compute the loss again for a second")
        # Scaled in place and let go, so that the largest of them, by V, exists once.
        gradients, ctx.gradients = ctx.gradients, None
        scale = grads[0] / ctx.rows
        return (*(None if gradient is None else gradient.mul_(scale) for gradient in gradients), None, None)


Sums = tuple[Tensor, Tensor, Tensor, Tensor | None]  # nats of all rows, and its gradients by h, V and c


def _sums_and_gradients(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor) -> Sums:
    nats = h_NH.new_zeros(())
    dh_NH, dV_CH = torch.empty_like(h_NH), torch.zeros_like(V_CH)
    dc_C = None if c_C is None else torch.zeros_like(c_C)
    for rows, p_RC in _blocks_of_logits(h_NH, V_CH, c_C):
        nats += _become_gradients(p_RC, y_N[rows])
        product(p_RC, V_CH, out=dh_NH[rows])
        add_product(dV_CH, p_RC.t(), h_NH[rows])
        if dc_C is not None:
            dc_C += column_sums(p_RC)
    return nats, dh_NH, dV_CH, dc_C


def _sums_and_gradients_bf16(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None, y_N: Tensor) -> Sums:
    """As `_sums_and_gradients`, logits and probabilities in bf16: half the memory to pass over, faster products."""
    (N, H), V = h_NH.shape, V_CH.bfloat16()
    h, Vc = h_NH.bfloat16(), V
    if c_C is not None:
        # The bias joins the product, which adds in fp32: two columns, what bf16 keeps of it and what that leaves out.
        kept_C = c_C.bfloat16()
        h = torch.cat((h, h.new_ones(N, 2)), dim=1)
        Vc = torch.cat((V, kept_C.unsqueeze(1), (c_C - kept_C).bfloat16().unsqueeze(1)), dim=1)
    # Blocks of one size, of which few are in use: a bf16 product of a new shape is compiled first.
    R = _rounded_up(_rows_of_a_block(N, len(V), h.element_size()))
    h = functional.pad(h, (0, 0, 0, -N % R))
    nats = h_NH.new_zeros(())
    dh, dVc = h_NH.new_empty(len(h), H), h_NH.new_zeros(Vc.shape)
    p_RC, product = h.new_empty(R, len(V)), torch.empty_like(Vc)
    for start in range(0, N, R):
        rows, y_R = slice(start, start + R), y_N[start : start + R]
        torch.mm(h[rows], Vc.t(), out=p_RC)
        nats += _become_gradients(p_RC[: len(y_R)], y_R)
        p_RC[len(y_R) :] = 0.0
        dh[rows] = p_RC @ V
        dVc += torch.mm(p_RC.t(), h[rows], out=product)
    return nats, dh[:N], dVc[:, :H], None if c_C is None else dVc[:, H]


def _become_gradients(logits_RC: Tensor, y_R: Tensor) -> Tensor:
    """Turn logits, in place, into the gradients by them (probabilities, less 1 at the target); returns their nats."""
    sums = torch.promote_types(logits_RC.dtype, torch.float32)
    target_R = logits_RC.gather(1, y_R.unsqueeze(1)).squeeze(1)
    nats_R = logits_RC.amax(1).to(sums) - target_R.to(sums)
    p_RC = torch.softmax(logits_RC, 1, out=logits_RC)
    # The likeliest word's probability is 1 over the sum of the exponentials, those less the largest logit.
    nats_R += log(1 / p_RC.amax(1).to(sums))
    p_RC.index_put_((torch.arange(len(y_R), device=y_R.device), y_R), p_RC.new_tensor(-1.0), accumulate=True)
    return total(nats_R)


def _blocks_of_logits(h_NH: Tensor, V_CH: Tensor, c_C: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their logits (R, C) in a buffer that the next block overwrites."""
    N, C = len(h_NH), len(V_CH)
    R = _rows_of_a_block(N, C, h_NH.element_size())
    buffer = h_NH.new_empty(R, C)
    for start in range(0, N, R):
        rows = slice(start, min(start + R, N))
        logits_RC = buffer[: rows.stop - start]
        product(h_NH[rows], V_CH.t(), out=logits_RC)
        if c_C is not None:
            logits_RC += c_C
        yield rows, logits_RC


def _rows_of_a_block(N: int, C: int, element_size: int) -> int:
    """All N rows if their logits fit into `BLOCK_BYTES`, else as many as do, in `FEWEST_BLOCKS` blocks or more."""
    blocks = -(-N * C * element_size // BLOCK_BYTES)
    return -(-N // (max(FEWEST_BLOCKS, blocks) if blocks > 1 else 1))


def _rounded_up(size: int) -> int:
    return -(-size // SHAPES) * SHAPES
