"""The Mogrifier LSTM (Melis, Kocisky and Blunsom 2020, arXiv:1909.01792): one step, and whole packed sequences.

The backward pass is written by hand. As in recurrence.py, each weight's gradient is one product over all rows, and the
loop over time holds the rest: more than there, as what a step reads of its word depends on the state before it.

The inputs of the cell take turns: turn 0 is x, turn 1 is s, and turn k + 2 is turn k times the gate of round k,
2 sigmoid(turn k + 1 through the matrices of round k).

Shape suffixes: N rows of the packed batch, B sequences (in a loop: those still running), X inputs, H hidden units, G
all gates of the cell side by side.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.model.arithmetic import add_product, column_sums, product, sigmoid
from pipeline.model.packed import last_rows
from pipeline.model.recurrence import lstm_factors, states_before, steps_of

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
        (N, X), H = x_NX.shape, len(W)
        matrices = _by_round(factors, rounds)
        gates = [x_NX.new_empty(N, X if k % 2 == 0 else H) for k in range(rounds)]
        between = [x_NX.new_empty(N, left.shape[1]) for left, *right in matrices if right]
        turns = [x_NX, x_NX.new_empty(N, H), *(torch.empty_like(gate) for gate in gates)]
        a_NG = x_NX.new_zeros(N, 4 * H) if b is None else b.repeat(N, 1)  # becomes o, i, f, g in place
        half_G = a_NG.new_tensor([0.5, 1.0]).repeat_interleave(torch.tensor([3 * H, H]))
        s_NH, c_NH, tanh_c_NH = (x_NX.new_empty(N, H) for _ in range(3))
        s, c = (s_NH.new_zeros(batch_sizes[0], H),) * 2 if s0_BH is None or c0_BH is None else (s0_BH, c0_BH)
        for turn, gate, inner, (a_BG, s_BH, c_BH, tanh_c_BH) in zip(
            *(steps_of(batch_sizes, *wholes) for wholes in (turns, gates, between, (a_NG, s_NH, c_NH, tanh_c_NH))),
            strict=True,
        ):
            B = len(s_BH)
            torch.mul(s[:B], 1.0 if kept_BH is None else kept_BH[:B], out=turn[1])
            for k, (*left, last) in enumerate(matrices):
                read = product(turn[k + 1], left[0], out=inner[k]) if left else turn[k + 1]
                product(read, last, out=gate[k]).mul_(0.5).tanh_().add_(1)  # twice the sigmoid
                torch.mul(turn[k], gate[k], out=turn[k + 2])
            read_x, read_s = _inputs(turn)
            add_product(add_product(a_BG, read_x, U), read_s, W).mul_(half_G).tanh_()
            a_BG[:, : 3 * H].mul_(0.5).add_(0.5)
            o, i, f, g = a_BG.chunk(4, dim=1)
            torch.mul(g, i, out=c_BH).addcmul_(c[:B], f)
            torch.tanh(c_BH, out=tanh_c_BH)
            torch.mul(tanh_c_BH, o, out=s_BH)
            s, c = s_BH, c_BH
        ctx.save_for_backward(U, W, b, c0_BH, kept_BH, a_NG, c_NH, tanh_c_NH, *factors, *gates, *between, *turns)
        ctx.batch_sizes, ctx.rounds = batch_sizes, rounds
        ctx.set_materialize_grads(False)
        return s_NH, c_NH.index_select(0, last_rows(batch_sizes).to(c_NH.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        U, W, b, c0_BH, kept_BH, a_NG, c_NH, tanh_c_NH, *rest = ctx.saved_tensors
        sizes, rounds, H = ctx.batch_sizes, ctx.rounds, len(W)
        low = len(rest) > 3 * rounds + 2  # each matrix is two, and what lies between them was kept
        factors, gates, between, turns = (
            [*part] for part in _parts(rest, (1 + low) * rounds, rounds, low * rounds, rounds + 2)
        )
        matrices = _by_round(factors, rounds)
        back = [[matrix.t().contiguous() for matrix in reversed(through)] for through in matrices]
        by_inputs = torch.cat((U, W)).t().contiguous()
        # The factors of all gates become da in place, as in recurrence.py, and so do those of the rounds' gates:
        # turn k + 2 is turn k times a gate 2 sigmoid(a), whose derivative by a is itself times 1 - gate / 2.
        da_NG, dc_by_ds_NH = lstm_factors(a_NG, states_before(c_NH, c0_BH, sizes, whole=True), tanh_c_NH)
        da_o, da_c = da_NG[:, :H], da_NG[:, H:].unflatten(1, (3, H))
        f = a_NG[:, 2 * H : 3 * H]
        da_gates = [torch.mul(gate, -0.5).add_(1).mul_(turn) for gate, turn in zip(gates, turns[2:], strict=True)]
        dx_NX = torch.empty_like(turns[0])
        ds_NH = torch.zeros_like(c_NH) if grads[0] is None else grads[0].clone()
        ds0_BH = torch.zeros_like(c_NH[: sizes[0]])
        dc_BH = torch.zeros_like(ds0_BH) if grads[1] is None else grads[1].clone()
        steps = [*steps_of(sizes, da_NG, da_o, da_c, ds_NH, dc_by_ds_NH, f, dx_NX)]
        gate_steps, da_gate_steps = [*steps_of(sizes, *gates)], [*steps_of(sizes, *da_gates)]
        for t in range(len(sizes) - 1, -1, -1):
            da_BG, da_o_BH, da_c_B3H, ds_BH, dc_by_ds_BH, f_BH, dx_BX = steps[t]
            running = dc_BH[: len(ds_BH)]
            running.addcmul_(ds_BH, dc_by_ds_BH)
            da_o_BH.mul_(ds_BH)
            da_c_B3H.mul_(running.unsqueeze(1))
            running.mul_(f_BH)
            by_x, by_s = product(da_BG, by_inputs).split((len(U), H), dim=1)
            older, newer = (by_s, by_x) if rounds % 2 else (by_x, by_s)  # by the last two turns
            for k in range(rounds - 1, -1, -1):
                da_gate = da_gate_steps[t][k].mul_(newer)
                *first, last = back[k]
                older, newer = (
                    newer.mul_(gate_steps[t][k]),
                    add_product(older, product(da_gate, first[0]) if first else da_gate, last),
                )
            dx_BX.copy_(older)
            before = steps[t - 1][3] if t else ds0_BH
            before[: len(newer)].add_(newer if kept_BH is None else newer.mul_(kept_BH[: len(newer)]))
        read_x, read_s = _inputs(turns)
        dU, dW = product(read_x.t(), da_NG), product(read_s.t(), da_NG)
        db = None if b is None else column_sums(da_NG)
        d_factors = []
        for k, (*left, last) in enumerate(matrices):
            if left:
                d_factors.append(product(turns[k + 1].t(), product(da_gates[k], last.t())))
            d_factors.append(product((between[k] if left else turns[k + 1]).t(), da_gates[k]))
        ds0_BH, dc_BH = (
            d if wanted else None for d, wanted in zip((ds0_BH, dc_BH), ctx.needs_input_grad[5:7], strict=True)
        )
        return dx_NX, None, dU, dW, db, ds0_BH, dc_BH, None, None, *d_factors


def _by_round(factors: Sequence[Tensor], rounds: int) -> list[list[Tensor]]:
    each = len(factors) // rounds
    return [[*factors[k * each : (k + 1) * each]] for k in range(rounds)]


def _parts(of: Sequence[Tensor], *lengths: int) -> Iterator[Sequence[Tensor]]:
    """So many of them, then so many, and so on."""
    left = iter(of)
    return ([*islice(left, length)] for length in lengths)


def _inputs(turns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What the cell reads: the last turn of x, and the last of s."""
    return (turns[-1], turns[-2]) if len(turns) % 2 else (turns[-2], turns[-1])
