"""The cells of cells.py over whole packed sequences, with backward passes written by hand.

Under autograd, a loop over time keeps every intermediate of every step and multiplies each weight's gradient together
step by step. Here the input products of all steps are one product (or one look-up), each gate's derivative factor
is computed for all steps at once, each weight's gradient is one product over all rows, and the loop over time
holds only what depends on the step before. Nothing is padded (see packed.py). The tests prove values and gradients
equal to those of cells.py in float64.

Shape suffixes: N rows of the packed batch, B sequences (in a loop: those still running), X inputs, H hidden units,
G all gates of the cell side by side, in the order of cells.GATES. A leading d is the loss's gradient by what follows.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from pipeline.model.arithmetic import add_product, column_sums, product
from pipeline.model.cells import GATES, State
from pipeline.model.output import Precision, uses_bf16
from pipeline.model.packed import last_rows, previous_rows, steps_and_sequences

aten = torch.ops.aten

# torch.nn's order. Its GRU is missing: the reset gate acts after the recurrent product there, which no weights undo.
TORCH_GATES = {"rnn": ("s",), "lstm": ("i", "f", "g", "o")}


def run_layer(
    cell: str,
    x: Tensor,
    batch_sizes: Sequence[int],
    U: Tensor,
    W: Tensor,
    b: Tensor | None,
    state: State | None = None,
    precision: Precision = "exact",
    kept_BH: Tensor | None = None,
) -> tuple[Tensor, State]:
    """One layer over a packed batch.

    Args:
        cell: "rnn", "lstm" or "gru".
        x: (N,) ids of one-hot words, int64, or (N, X) floats.
        batch_sizes: sequences at each step, never rising, their sum N.
        U: input weight (X, G).
        W: recurrent weight (H, G).
        b: bias (G,) or None.
        state: where sequences start: (B, H), for the LSTM two of them; None: zero.
        precision: `exact`: on a processor, compute the same bytes as on any other (see arithmetic.py). Else torch's own
            kernels may run, on a processor with AMX in bf16 if `precision` allows it.
        kept_BH: a factor on what the recurrent products read of each sequence's state; None: 1.

    Returns:
        The states s of all rows (N, H), and each sequence's last state, in the form of `state`.
    """
    may_use_kernels = cell in TORCH_GATES and kept_BH is None and (x.is_cuda or precision != "exact")
    if may_use_kernels and _has_fast_kernel(cell, x, batch_sizes):
        return run_library_layer(cell, x, batch_sizes, U, W, b, state, _in_bf16(precision, x.device))
    last_B = last_rows(batch_sizes).to(x.device)
    if cell == "lstm":
        s_BH, c_BH = (None, None) if state is None else state
        s_NH, c_BH = _LSTM.apply(x, tuple(batch_sizes), U, W, b, s_BH, c_BH, kept_BH)
        return s_NH, (s_NH.index_select(0, last_B), c_BH)
    function = {"rnn": _RNN, "gru": _GRU}[cell]
    s_NH = function.apply(x, tuple(batch_sizes), U, W, b, state, kept_BH)
    return s_NH, s_NH.index_select(0, last_B)


def run_library_layer(
    cell: str,
    x: Tensor,
    batch_sizes: Sequence[int],
    U: Tensor,
    W: Tensor,
    b: Tensor | None,
    state: State | None = None,
    bf16: bool = False,
) -> tuple[Tensor, State]:
    """As `run_layer`, for the plain RNN and the LSTM, by torch's own kernels: all steps in one call.

    They take no ids, so for one-hot words they get the rows of U and a unit matrix to multiply them by. With `bf16` all
    that they read, write and keep from step to step is rounded to bf16, gradients too; sums of products are float32.
    """
    if not x.is_floating_point():
        x, U = embedding(x, U), torch.eye(U.shape[1], dtype=U.dtype, device=U.device)
    T, B = len(batch_sizes), batch_sizes[0]
    zero_BH = W.new_zeros(B, len(W))
    started = [] if state is None else list(state) if isinstance(state, tuple) else [state]
    initial = [s_BH.unsqueeze(0) for s_BH in started or [zero_BH] * (2 if cell == "lstm" else 1)]
    weights, kind = torch_weights(cell, U, W, b), torch.bfloat16 if bf16 else x.dtype
    x, initial, weights = x.to(kind), [s_1BH.to(kind) for s_1BH in initial], [weight.to(kind) for weight in weights]
    # The arguments behind the weights: biases, layers, dropout, training, both directions.
    rest = (weights, b is not None, 1, 0.0, torch.is_grad_enabled(), False)
    hidden = initial if cell == "lstm" else initial[0]
    function = cast(Callable[..., tuple[Tensor, ...]], torch.lstm if cell == "lstm" else torch.rnn_tanh)
    if batch_sizes[-1] == B:
        s_TBH, *last = function(x.unflatten(0, (T, B)), hidden, *rest, False)
        s_NH = s_TBH.flatten(0, 1)
    else:
        s_NH, *last = function(x, torch.tensor(batch_sizes), hidden, *rest)
    last_BH = [part_1BH.squeeze(0).to(W.dtype) for part_1BH in last]
    return s_NH.to(W.dtype), (last_BH[0], last_BH[1]) if cell == "lstm" else last_BH[0]


def torch_weights(cell: str, U: Tensor, W: Tensor, b: Tensor | None) -> list[Tensor]:
    """U (X, G), W (H, G) and b (G,) as torch.nn takes them: (G, X), (G, H), and twice (G,) where `b` is not None.

    Gradients flow back through it. Two biases are added up there, so the second is zero.
    """

    def reordered(weight_GX: Tensor) -> Tensor:
        blocks = dict(zip(GATES[cell], weight_GX.chunk(len(GATES[cell])), strict=True))
        return torch.cat([blocks[gate] for gate in TORCH_GATES[cell]])

    weights = [reordered(U.t()), reordered(W.t())]
    return weights if b is None else [*weights, reordered(b), torch.zeros_like(b)]


def _has_fast_kernel(cell: str, x: Tensor, batch_sizes: Sequence[int]) -> bool:
    """Whether torch's kernel beats the functions below: a GPU's cuDNN always does, as it waits for no Python.

    On a processor that is oneDNN's LSTM, whose sums depend on the size of its caches. It needs sequences of one length
    (so are most batches that are made by length) and float32 inputs; one-hot words would be multiplied by a unit
    matrix, which costs more than it saves.
    """
    if x.is_cuda:
        return True
    return cell == "lstm" and x.dtype == torch.float32 and batch_sizes[0] == batch_sizes[-1]


def _in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether torch's kernels run in bf16: oneDNN's LSTM does so in half the time on tiles (AMX).

    With the bf16 of AVX512 alone, which the output layer gains from, it takes half as long again as in float32.
    """
    tiles = device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16")
    return bool(tiles) and uses_bf16(precision, device)


class _RNN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        batch_sizes: tuple[int, ...],
        U: Tensor,
        W: Tensor,
        b: Tensor | None,
        s0_BH: Tensor | None,
        kept_BH: Tensor | None,
    ) -> Tensor:
        s_NH = _input_products(x, U, b)  # becomes the states in place
        before = s0_BH
        for s_BH in s_NH.split(batch_sizes):
            if before is not None:
                add_product(s_BH, _kept(before[: len(s_BH)], kept_BH), W)
            before = s_BH.tanh_()
        ctx.save_for_backward(x, U, W, s0_BH, kept_BH, s_NH)
        ctx.batch_sizes = batch_sizes
        return s_NH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, U, W, s0_BH, kept_BH, s_NH = ctx.saved_tensors
        da_NH = grads[0].clone()  # by the states, turned step by step into that by the pre-activations
        Wt = W.t().contiguous()  # products with a transposed view are half as fast
        da_steps, s_steps = da_NH.split(ctx.batch_sizes), s_NH.split(ctx.batch_sizes)
        for t in range(len(ctx.batch_sizes) - 1, -1, -1):
            da_BH = da_steps[t]
            aten.tanh_backward.grad_input(da_BH, s_steps[t], grad_input=da_BH)
            if t:
                _add_by_kept(da_steps[t - 1][: len(da_BH)], da_BH, Wt, kept_BH)
        ds0_BH = _kept(product(da_steps[0], Wt), kept_BH) if ctx.needs_input_grad[5] else None
        dW = _product_over_steps(states_before(s_NH, s0_BH, ctx.batch_sizes), da_NH, ctx.batch_sizes, kept_BH)
        dx, dU, db = _input_gradients(ctx.needs_input_grad, x, U, da_NH)
        return dx, None, dU, dW, db, ds0_BH, None


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        batch_sizes: tuple[int, ...],
        U: Tensor,
        W: Tensor,
        b: Tensor | None,
        s0_BH: Tensor | None,
        c0_BH: Tensor | None,
        kept_BH: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        H = len(W)
        gates_NG = _input_products(x, U, b)  # becomes o, i, f, g in place
        sigmoids_NG, g = gates_NG[:, : 3 * H], gates_NG[:, 3 * H :]
        o, i, f = sigmoids_NG.chunk(3, dim=1)
        s_NH, c_NH, tanh_c_NH = (gates_NG.new_empty(len(gates_NG), H) for _ in range(3))
        half_G = gates_NG.new_tensor([0.5, 1.0]).repeat_interleave(torch.tensor([3 * H, H]))
        s_before, c_before = s0_BH, c0_BH
        for gates_BG, sigmoids_BG, o_BH, i_BH, f_BH, g_BH, s_BH, c_BH, tanh_c_BH in steps_of(
            batch_sizes, gates_NG, sigmoids_NG, o, i, f, g, s_NH, c_NH, tanh_c_NH
        ):
            B = len(s_BH)
            if s_before is not None:
                add_product(gates_BG, _kept(s_before[:B], kept_BH), W)
            gates_BG.mul_(half_G).tanh_()
            sigmoids_BG.mul_(0.5).add_(0.5)
            torch.mul(g_BH, i_BH, out=c_BH)
            if c_before is not None:
                c_BH.addcmul_(c_before[:B], f_BH)
            torch.tanh(c_BH, out=tanh_c_BH)
            torch.mul(tanh_c_BH, o_BH, out=s_BH)
            s_before, c_before = s_BH, c_BH
        ctx.save_for_backward(x, U, W, s0_BH, c0_BH, kept_BH, gates_NG, s_NH, c_NH, tanh_c_NH)
        ctx.batch_sizes = batch_sizes
        ctx.set_materialize_grads(False)
        return s_NH, c_NH.index_select(0, last_rows(batch_sizes).to(c_NH.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, U, W, s0_BH, c0_BH, kept_BH, gates_NG, s_NH, c_NH, tanh_c_NH = ctx.saved_tensors
        sizes, H = ctx.batch_sizes, len(W)
        Wt = W.t().contiguous()
        # The factors become da in place: da_o = ds * factor, da_i, da_f, da_g = dc * factor.
        da_NG, dc_by_ds_NH = lstm_factors(gates_NG, states_before(c_NH, c0_BH, sizes, whole=True), tanh_c_NH)
        da_o, da_c = da_NG[:, :H], da_NG[:, H:].unflatten(1, (3, H))
        f = gates_NG[:, 2 * H : 3 * H]
        ds_NH = torch.zeros_like(s_NH) if grads[0] is None else grads[0].clone()
        # by the cell states of the step at hand; rows of sequences that have ended wait for theirs
        dc_BH = torch.zeros_like(s_NH[: sizes[0]]) if grads[1] is None else grads[1].clone()
        steps = list(steps_of(sizes, da_NG, da_o, da_c, ds_NH, dc_by_ds_NH, f))
        for t in range(len(sizes) - 1, -1, -1):
            da_BG, da_o_BH, da_c_B3H, ds_BH, dc_by_ds_BH, f_BH = steps[t]
            running = dc_BH[: len(ds_BH)]
            running.addcmul_(ds_BH, dc_by_ds_BH)
            da_o_BH.mul_(ds_BH)
            da_c_B3H.mul_(running.unsqueeze(1))
            running.mul_(f_BH)
            if t:
                _add_by_kept(steps[t - 1][3][: len(ds_BH)], da_BG, Wt, kept_BH)
        ds0_BH = _kept(product(da_NG[: sizes[0]], Wt), kept_BH) if ctx.needs_input_grad[5] else None
        dW = _product_over_steps(states_before(s_NH, s0_BH, sizes), da_NG, sizes, kept_BH)
        dx, dU, db = _input_gradients(ctx.needs_input_grad, x, U, da_NG)
        return dx, None, dU, dW, db, ds0_BH, dc_BH if ctx.needs_input_grad[6] else None, None


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        batch_sizes: tuple[int, ...],
        U: Tensor,
        W: Tensor,
        b: Tensor | None,
        s0_BH: Tensor | None,
        kept_BH: Tensor | None,
    ) -> Tensor:
        H = len(W)
        W_rz, W_h = W[:, : 2 * H], W[:, 2 * H :]
        gates_NG = _input_products(x, U, b)  # becomes r, z, h in place
        s_NH, sr_NH = (gates_NG.new_zeros(len(gates_NG), H) for _ in range(2))
        before = gates_NG.new_zeros(batch_sizes[0], H) if s0_BH is None else s0_BH
        for gates_BG, s_BH, sr_BH in steps_of(batch_sizes, gates_NG, s_NH, sr_NH):
            before = before[: len(s_BH)]
            read = _kept(before, kept_BH)
            add_product(gates_BG[:, : 2 * H], read, W_rz).mul_(0.5).tanh_().mul_(0.5).add_(0.5)
            r, z, h = gates_BG.chunk(3, dim=1)
            torch.mul(read, r, out=sr_BH)
            add_product(h, sr_BH, W_h).tanh_()
            before = torch.lerp(h, before, z, out=s_BH)
        ctx.save_for_backward(x, U, W, s0_BH, kept_BH, gates_NG, s_NH, sr_NH)
        ctx.batch_sizes = batch_sizes
        return s_NH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, U, W, s0_BH, kept_BH, gates_NG, s_NH, sr_NH = ctx.saved_tensors
        sizes, H = ctx.batch_sizes, len(W)
        Wt_rz, Wt_h = W.t().contiguous().split((2 * H, H))
        r, z, h = gates_NG.chunk(3, dim=1)
        before_NH = states_before(s_NH, s0_BH, sizes, whole=True)
        read_NH = _kept_of_rows(before_NH, sizes, kept_BH)
        # da starts as the factors of all gates: da_r = d(s r) * factor, da_z, da_h = ds * factor.
        da_NG = torch.empty_like(gates_NG)
        by_r, by_z, by_h = da_NG.chunk(3, dim=1)
        aten.sigmoid_backward.grad_input(read_NH, r, grad_input=by_r)
        aten.sigmoid_backward.grad_input(before_NH - h, z, grad_input=by_z)
        aten.tanh_backward.grad_input(1 - z, h, grad_input=by_h)
        ds_NH = grads[0].clone()
        dsr_NH = torch.empty_like(ds_NH)
        ds0_BH = torch.zeros_like(ds_NH[: sizes[0]])
        steps = [whole.split(sizes) for whole in (da_NG, ds_NH, dsr_NH, r, z)]
        for t in range(len(sizes) - 1, -1, -1):
            da_BG, ds_BH, dsr_BH, r_BH, z_BH = (step[t] for step in steps)
            B = len(ds_BH)
            da_BG[:, H:].unflatten(1, (2, H)).mul_(ds_BH.unsqueeze(1))
            product(da_BG[:, 2 * H :], Wt_h, out=dsr_BH)
            da_BG[:, :H].mul_(dsr_BH)
            before = (steps[1][t - 1] if t else ds0_BH)[:B]
            if kept_BH is None:
                add_product(before, da_BG[:, : 2 * H], Wt_rz).addcmul_(ds_BH, z_BH).addcmul_(dsr_BH, r_BH)
            else:
                by_read_BH = product(da_BG[:, : 2 * H], Wt_rz).addcmul_(dsr_BH, r_BH)
                before.add_(_kept(by_read_BH, kept_BH)).addcmul_(ds_BH, z_BH)
        dW_rz = product(read_NH.t(), da_NG[:, : 2 * H])
        dW_h = product(sr_NH.t(), da_NG[:, 2 * H :])
        dx, dU, db = _input_gradients(ctx.needs_input_grad, x, U, da_NG)
        return dx, None, dU, torch.cat((dW_rz, dW_h), dim=1), db, ds0_BH if ctx.needs_input_grad[5] else None, None


def lstm_factors(gates_NG: Tensor, c_before_NH: Tensor, tanh_c_NH: Tensor) -> tuple[Tensor, Tensor]:
    """What an LSTM's backward pass multiplies gradients by, for all rows at once.

    Args:
        gates_NG: the gates o, i, f, g.
        c_before_NH: the cell state before each row.
        tanh_c_NH: tanh of the cell state after it.

    Returns:
        (N, G): the factor of each pre-activation, for o on the gradient by s, for i, f and g on that by c; and (N, H):
        the factor that turns the gradient by s into that by c.
    """
    o, i, f, g = gates_NG.chunk(4, dim=1)
    factors_NG = torch.empty_like(gates_NG)
    by_o, by_i, by_f, by_g = factors_NG.chunk(4, dim=1)
    aten.sigmoid_backward.grad_input(tanh_c_NH, o, grad_input=by_o)
    aten.sigmoid_backward.grad_input(g, i, grad_input=by_i)
    aten.sigmoid_backward.grad_input(c_before_NH, f, grad_input=by_f)
    aten.tanh_backward.grad_input(i, g, grad_input=by_g)
    return factors_NG, aten.tanh_backward(o, tanh_c_NH)


def steps_of(batch_sizes: Sequence[int], *wholes: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For each step, its rows of each of `wholes`, of which there may be none."""
    splits = [whole.split(batch_sizes) for whole in wholes]
    return zip(*splits, strict=True) if splits else repeat((), len(batch_sizes))


def _input_products(x: Tensor, U: Tensor, b: Tensor | None) -> Tensor:
    """U x + b of all rows at once: (N, G), a new tensor."""
    if not x.is_floating_point():
        a_NG = embedding(x, U)
        return a_NG if b is None else a_NG.add_(b)
    return product(x, U) if b is None else add_product(b.repeat(len(x), 1), x, U)


def _input_gradients(
    needed: tuple[bool, ...], x: Tensor, U: Tensor, da_NG: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients by x, U and b, where `needed` says that x (0), U (2) and b (4) need them."""
    dx = product(da_NG, U.t()) if needed[0] else None
    dU = None
    if needed[2]:
        # Summed row by row in the order of the batch, whatever the number of threads.
        one_hot = not x.is_floating_point()
        dU = aten.embedding_dense_backward(da_NG, x, len(U), -1, False) if one_hot else product(x.t(), da_NG)
    return dx, dU, column_sums(da_NG) if needed[4] else None


def states_before(s_NH: Tensor, s0_BH: Tensor | None, batch_sizes: Sequence[int], whole: bool = False) -> Tensor:
    """The state before each row: (N, H); without s0 and unless `whole`, step 0 (all zero) is left out."""
    later = s_NH.index_select(0, previous_rows(batch_sizes).to(s_NH.device))
    if s0_BH is None:
        if not whole:
            return later
        s0_BH = s_NH.new_zeros(batch_sizes[0], s_NH.shape[1])
    return torch.cat((s0_BH, later))


def _product_over_steps(before: Tensor, da_NG: Tensor, batch_sizes: Sequence[int], kept_BH: Tensor | None) -> Tensor:
    """A recurrent weight's gradient (H, G); `before` may leave out step 0."""
    return product(_kept_of_rows(before, batch_sizes, kept_BH).t(), da_NG[len(da_NG) - len(before) :])


def _kept(s_BH: Tensor, kept_BH: Tensor | None) -> Tensor:
    """What the recurrent products read of the states of one step."""
    return s_BH if kept_BH is None else s_BH * kept_BH[: len(s_BH)]


def _kept_of_rows(before: Tensor, batch_sizes: Sequence[int], kept_BH: Tensor | None) -> Tensor:
    """As `_kept`, of the states before all rows; `before` may leave out step 0."""
    if kept_BH is None:
        return before
    sequence_N = torch.from_numpy(steps_and_sequences(batch_sizes)[1]).to(before.device)
    return before * kept_BH[sequence_N[len(sequence_N) - len(before) :]]


def _add_by_kept(ds_BH: Tensor, da_BG: Tensor, Wt: Tensor, kept_BH: Tensor | None) -> None:
    """Add the gradient by the states of one step, through the next one's recurrent product, to `ds_BH`."""
    if kept_BH is None:
        add_product(ds_BH, da_BG, Wt)
    else:
        ds_BH.add_(_kept(product(da_BG, Wt), kept_BH))
