"""The Mogrifier LSTM (Melis, Kocisky and Blunsom 2020, arXiv:1909.01792): one step, and whole packed sequences.

The backward pass is written by hand. As in recurrence.py, each weight's gradient is one product over all rows, and the
loop over time holds the rest: more than there, as what a step reads of its word depends on the state before it.

The inputs of the cell take turns: turn 0 is x, turn 1 is s, and turn k + 2 is turn k times the gate of round k,
2 sigmoid(turn k + 1 through the matrices of round k).

Shape suffixes: N rows of the packed batch, B sequences (in a loop: those still running), X inputs, H hidden units, G
all gates of the cell side by side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.model.arithmetic import add_product, column_sums, product, sigmoid
from pipeline.model.packed import last_rows

aten = torch.ops.aten

Rounds = Sequence[Sequence[Tensor]]  # of each round its matrix, or the two whose product it is


def mogrify(x: Tensor, s: Tensor, rounds: Rounds) -> tuple[Tensor, Tensor]:
    """What an LSTM reads in place of x (B, X) and s (B, H), which have gated one another in turn, x first.

    x = 2 sigma(Q s) * x, then s = 2 sigma(R x) * s, and so on, each round with a Q (H, X) or R (X, H) of its own, or
    with two matrices whose product it is. Generation runs this, in front of cells.py.
    """
    older, newer = x, s
    for matrices in rounds:
        gate = newer
        for matrix in matrices:
            gate = product(gate, matrix)
        older, newer = newer, 2 * sigmoid(gate) * older
    return (newer, older) if len(rounds) % 2 else (older, newer)


def run_mogrifier(
    x_NX: Tensor,
    batch_sizes: Sequence[int],
    U: Tensor,
    W: Tensor,
    b: Tensor | None,
    rounds: Rounds,
    state: tuple[Tensor, Tensor] | None = None,
    kept_BH: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One LSTM layer over a packed batch; arguments and results as those of `recurrence.run_layer`.

    `rounds` has, in turn, what gates x (H, X) and s (X, H), each as one matrix or as two with a smaller width between.
    `kept_BH` is a factor on the state before each step, for all that reads it.
    """
    s0_BH, c0_BH = (None, None) if state is None else state
    factors = [factor for matrices in rounds for factor in matrices]
    s_NH, c_BH = _Mogrifier.apply(x_NX, tuple(batch_sizes), U, W, b, s0_BH, c0_BH, kept_BH, len(rounds), *factors)
    return s_NH, (s_NH.index_select(0, last_rows(batch_sizes).to(x_NX.device)), c_BH)


class _Mogrifier(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NX: Tensor,
        batch_sizes: tuple[int, ...],
        U: Tensor,
        W: Tensor,
        b: Tensor | None,
        s0_BH: Tensor | None,
        c0_BH: Tensor | None,
        kept_BH: Tensor | None,
        rounds: int,
        *factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        (N, X), H, zero = x_NX.shape, len(W), x_NX.new_zeros(batch_sizes[0], len(W))
        matrices = _by_round(factors, rounds)
        gates = [x_NX.new_empty(N, X if k % 2 == 0 else H) for k in range(rounds)]
        turns = [x_NX, x_NX.new_empty(N, H), *(torch.empty_like(gate) for gate in gates)]
        read_x, read_s = _inputs(turns)
        a_NG = x_NX.new_zeros(N, 4 * H) if b is None else b.repeat(N, 1)  # becomes o, i, f, g in place
        s_NH, c_NH, tanh_c_NH = (x_NX.new_empty(N, H) for _ in range(3))
        s, c = (zero, zero) if s0_BH is None or c0_BH is None else (s0_BH, c0_BH)
        for rows in _rows(batch_sizes):
            B = rows.stop - rows.start
            torch.mul(s[:B], 1.0 if kept_BH is None else kept_BH[:B], out=turns[1][rows])
            for k, through in enumerate(matrices):
                a = turns[k + 1][rows]
                for matrix in through:
                    a = product(a, matrix)
                torch.mul(sigmoid(a), 2.0, out=gates[k][rows])
                torch.mul(turns[k][rows], gates[k][rows], out=turns[k + 2][rows])
            a_BG = add_product(add_product(a_NG[rows], read_x[rows], U), read_s[rows], W)
            a_BG[:, : 3 * H].mul_(0.5).tanh_().mul_(0.5).add_(0.5)
            o, i, f, g = a_BG.chunk(4, dim=1)
            g.tanh_()
            torch.add(c[:B] * f, g * i, out=c_NH[rows])
            torch.tanh(c_NH[rows], out=tanh_c_NH[rows])
            torch.mul(tanh_c_NH[rows], o, out=s_NH[rows])
            s, c = s_NH[rows], c_NH[rows]
        ctx.save_for_backward(U, W, b, c0_BH, kept_BH, a_NG, c_NH, tanh_c_NH, *factors, *gates, *turns)
        ctx.batch_sizes, ctx.rounds = batch_sizes, rounds
        ctx.set_materialize_grads(False)
        return s_NH, c_NH.index_select(0, last_rows(batch_sizes).to(c_NH.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        U, W, b, c0_BH, kept_BH, a_NG, c_NH, tanh_c_NH, *rest = ctx.saved_tensors
        rounds, sizes = ctx.rounds, ctx.batch_sizes
        turns, gates, factors = rest[-rounds - 2 :], rest[-2 * rounds - 2 : -rounds - 2], rest[: -2 * rounds - 2]
        matrices = _by_round(factors, rounds)
        back = [[matrix.t().contiguous() for matrix in reversed(through)] for through in matrices]
        Ut, Wt = U.t().contiguous(), W.t().contiguous()
        o, i, f, g = a_NG.chunk(4, dim=1)
        da_NG, dx_NX = torch.empty_like(a_NG), torch.empty_like(turns[0])
        da_gates = [torch.empty_like(gate) for gate in gates]
        ds_NH = torch.zeros_like(c_NH) if grads[0] is None else grads[0].clone()
        ds0_BH = torch.zeros_like(c_NH[: sizes[0]])
        dc_BH = torch.zeros_like(ds0_BH) if grads[1] is None else grads[1].clone()
        all_rows = _rows(sizes)
        for t in range(len(sizes) - 1, -1, -1):
            rows, B = all_rows[t], sizes[t]
            c_before = c_NH[all_rows[t - 1]][:B] if t else ds0_BH * 0 if c0_BH is None else c0_BH
            by_o, by_i, by_f, by_g = da_NG[rows].chunk(4, dim=1)
            ds, dc = ds_NH[rows], dc_BH[:B]
            dc.add_(aten.tanh_backward(ds * o[rows], tanh_c_NH[rows]))
            by_o.copy_(aten.sigmoid_backward(ds * tanh_c_NH[rows], o[rows]))
            by_i.copy_(aten.sigmoid_backward(dc * g[rows], i[rows]))
            by_f.copy_(aten.sigmoid_backward(dc * c_before, f[rows]))
            by_g.copy_(aten.tanh_backward(dc * i[rows], g[rows]))
            dc.mul_(f[rows])
            by_x, by_s = product(da_NG[rows], Ut), product(da_NG[rows], Wt)
            older, newer = (by_s, by_x) if rounds % 2 else (by_x, by_s)  # by the last two turns
            for k in range(rounds - 1, -1, -1):
                gate = gates[k][rows]
                torch.mul(newer * turns[k][rows], gate * (1 - gate / 2), out=da_gates[k][rows])
                through = da_gates[k][rows]
                for matrix in back[k]:
                    through = product(through, matrix)
                older, newer = newer * gate, older + through
            dx_NX[rows] = older
            before = ds_NH[all_rows[t - 1]] if t else ds0_BH
            before[:B].add_(newer if kept_BH is None else newer * kept_BH[:B])
        read_x, read_s = _inputs(turns)
        dU, dW = product(read_x.t(), da_NG), product(read_s.t(), da_NG)
        db = None if b is None else column_sums(da_NG)
        d_factors = []
        for k, through in enumerate(matrices):
            if len(through) == 1:
                d_factors.append(product(turns[k + 1].t(), da_gates[k]))
            else:
                left, right = through
                d_factors.append(product(turns[k + 1].t(), product(da_gates[k], right.t())))
                d_factors.append(product(product(turns[k + 1], left).t(), da_gates[k]))
        ds0_BH, dc_BH = (
            d if wanted else None for d, wanted in zip((ds0_BH, dc_BH), ctx.needs_input_grad[5:7], strict=True)
        )
        return dx_NX, None, dU, dW, db, ds0_BH, dc_BH, None, None, *d_factors


def _by_round(factors: Sequence[Tensor], rounds: int) -> list[list[Tensor]]:
    each = len(factors) // rounds
    return [[*factors[k * each : (k + 1) * each]] for k in range(rounds)]


def _rows(batch_sizes: Sequence[int]) -> list[slice]:
    """The rows of each step."""
    ends = [sum(batch_sizes[: t + 1]) for t in range(len(batch_sizes))]
    return [slice(end - B, end) for end, B in zip(ends, batch_sizes, strict=True)]


def _inputs(turns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What the cell reads: the last turn of x, and the last of s."""
    return (turns[-1], turns[-2]) if len(turns) % 2 else (turns[-2], turns[-1])
