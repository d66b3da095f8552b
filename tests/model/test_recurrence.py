import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.model import recurrence
from pipeline.model.cells import CELLS, GATES, State
from pipeline.model.packed import steps_and_sequences
from tests.model import reference

CELL_NAMES = ["rnn", "lstm", "gru"]


class Case:
    """Random weights, inputs and initial states in float64; every float tensor wants its gradient."""

    def __init__(self, cell, lengths, X, H, bias=True, one_hot=False, state=True, seed=0, device="cpu", kept=False):
        generator = torch.Generator().manual_seed(seed)

        def random(*shape):
            values = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
            return values.to(device).requires_grad_()

        G = len(GATES[cell]) * H
        lengths = sorted(lengths, reverse=True)
        self.cell, self.lengths = cell, lengths
        self.sizes = tuple(sum(n > t for n in lengths) for t in range(lengths[0]))
        N, B = sum(lengths), len(lengths)
        self.x = torch.randint(X, (N,), generator=generator).to(device) if one_hot else random(N, X)
        self.U, self.W = random(X, G), random(H, G)
        self.biases = [random(G)] if bias else []
        self.states = [random(B, H) for _ in range(2 if cell == "lstm" else 1)] if state else []
        self.kept_BH = random(B, H).detach() if kept else None
        self.weights_N = random(N, H).detach()
        self.weights_last = [random(B, H).detach() for _ in range(2)]

    def tensors(self) -> list[torch.Tensor]:
        inputs = [self.x] if self.x.is_floating_point() else []
        return [*inputs, self.U, self.W, *self.biases, *self.states]

    @property
    def bias(self) -> torch.Tensor | None:
        return self.biases[0] if self.biases else None

    def state(self, b: slice) -> State:
        """Initial state of the sequences `b`, in the cell's form; zero where the case has none."""
        zero = self.W.new_zeros(len(self.lengths), len(self.W))
        parts = [part[b] for part in self.states or [zero, zero]]
        return (parts[0], parts[1]) if self.cell == "lstm" else parts[0]

    def fast(self, run=recurrence.run_layer, **options):
        state = self.state(slice(None)) if self.states else None
        if self.kept_BH is not None:
            options["kept_BH"] = self.kept_BH
        return run(self.cell, self.x, self.sizes, self.U, self.W, self.bias, state, **options)

    def readable(self):
        """Each sequence by itself, one step after another, through cells.py."""
        _, sequence_N = steps_and_sequences(self.sizes)
        rows, last = {}, []
        for b in range(len(self.lengths)):
            state = self.state(slice(b, b + 1))
            for n in np.flatnonzero(sequence_N == b):
                inputs = self.x[n : n + 1], state, self.U, self.W, self.bias
                if self.kept_BH is None:
                    state = CELLS[self.cell](*inputs)
                else:
                    state = reference.step_reading(self.kept_BH[b : b + 1], self.cell, *inputs)
                rows[n] = state[0] if isinstance(state, tuple) else state
            last.append(state)
        s_NH = torch.cat([rows[n] for n in range(len(rows))])
        if self.cell == "lstm":
            return s_NH, tuple(torch.cat(parts) for parts in zip(*last, strict=True))
        return s_NH, torch.cat(last)

    def loss(self, result, last_counts=True):
        s_NH, last = result
        total = (s_NH * self.weights_N).sum()
        if last_counts:
            parts = last if isinstance(last, tuple) else (last,)
            total = total + sum((p * w).sum() for p, w in zip(parts, self.weights_last, strict=False))
        return total


cases = st.builds(
    Case,
    cell=st.sampled_from(CELL_NAMES),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    X=st.integers(1, 5),
    H=st.integers(1, 5),
    bias=st.booleans(),
    one_hot=st.booleans(),
    state=st.booleans(),
    seed=st.integers(0, 1000),
    kept=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(cases, st.booleans())
def test_values_and_every_gradient_equal_the_readable_cells(case, last_counts):
    assert_equal(case, case.fast(), last_counts)


@settings(max_examples=60, deadline=None)
@given(cases.filter(lambda case: case.cell != "gru" and case.kept_BH is None), st.booleans())
def test_so_do_those_of_the_kernels_that_a_gpu_runs(case, last_counts):
    # The same operators of torch that are cuDNN's on a GPU.
    assert_equal(case, case.fast(recurrence.run_library_layer), last_counts)


@pytest.mark.parametrize("layer_state", [False, True])
def test_an_lstm_over_sequences_of_one_length_takes_the_fast_kernel_and_gives_the_same(layer_state, monkeypatch):
    case = Case("lstm", [5, 5, 5], X=4, H=6, state=layer_state)
    exact = [*torch.autograd.grad(case.loss(case.readable()), case.tensors())]
    for name in ("x", "U", "W"):
        setattr(case, name, getattr(case, name).detach().float().requires_grad_())
    case.biases = [b.detach().float().requires_grad_() for b in case.biases]
    case.states = [s.detach().float().requires_grad_() for s in case.states]
    monkeypatch.setattr(recurrence, "_LSTM", None)  # so that taking the slow way would fail
    ours = torch.autograd.grad(case.loss(case.fast(precision="fp32")), case.tensors())
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_in_bf16_the_fast_kernel_stays_near_and_answers_in_the_type_that_it_was_asked_in():
    case = Case("lstm", [20] * 8, X=32, H=32)
    with torch.no_grad():
        for tensor in case.tensors():
            tensor.mul_(0.3)
    near = case.fast()
    exact = torch.autograd.grad(case.loss(near), case.tensors())
    rounded = case.fast(recurrence.run_library_layer, bf16=True)
    for ours, theirs in zip((rounded[0], *rounded[1]), (near[0], *near[1]), strict=True):
        assert ours.dtype == torch.float64
        assert 0 < (ours - theirs).abs().max() < 0.01
    for ours, theirs in zip(torch.autograd.grad(case.loss(rounded), case.tensors()), exact, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize(
    ("precision", "capabilities", "expected"),
    [
        ("auto", {"amx_bf16": True, "avx512_bf16": True}, True),
        ("bf16", {"amx_bf16": True, "avx512_bf16": True}, True),
        ("fp32", {"amx_bf16": True, "avx512_bf16": True}, False),
        ("auto", {"amx_bf16": False, "avx512_bf16": True}, False),  # slower there than float32
        ("bf16", {}, False),
    ],
)
def test_layers_are_in_bf16_where_it_is_asked_for_and_the_processor_has_tiles(
    precision, capabilities, expected, monkeypatch
):
    asked = []

    def kernel(*arguments):
        asked.append(arguments[-1])
        return torch.zeros(6, 3), (torch.zeros(2, 3), torch.zeros(2, 3))

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(recurrence, "run_library_layer", kernel)
    weights = torch.zeros(4, 12), torch.zeros(3, 12), None
    recurrence.run_layer("lstm", torch.zeros(6, 4), (2, 2, 2), *weights, precision=precision)
    assert asked == [expected]


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_no_kernel_of_torch_runs_where_states_are_dropped(cell):
    case = Case(cell, [5, 5, 5], X=4, H=6, kept=True)
    assert_equal(case, case.fast(precision="fp32"), last_counts=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_gpu_computes_what_the_processor_does(cell, one_hot):
    here, there = (Case(cell, [9, 7, 7, 2], X=20, H=16, one_hot=one_hot, device=device) for device in ("cpu", "cuda"))
    ours = torch.autograd.grad(there.loss(there.fast()), there.tensors())
    theirs = torch.autograd.grad(here.loss(here.fast()), here.tensors())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-9, atol=1e-10)


def assert_equal(case, fast, last_counts):
    """Values and every gradient of `fast` equal those of cells.py."""
    readable = case.readable()
    torch.testing.assert_close(fast, readable, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(case.loss(fast, last_counts), case.tensors())
    theirs = torch.autograd.grad(case.loss(readable, last_counts), case.tensors(), materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("one_hot", [False, True])
def test_gradcheck(cell, one_hot):
    case = Case(cell, [4, 2, 2, 1], X=3, H=2, one_hot=one_hot)
    tensors = case.tensors()

    def function(*_):
        s_NH, last = case.fast()
        return (s_NH, *last) if isinstance(last, tuple) else (s_NH, last)

    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_states_equal_a_transcription_of_the_equations(cell, one_hot, bias):
    case = Case(cell, [7], X=4, H=3, one_hot=one_hot, bias=bias)
    U, W = case.U.detach().numpy(), case.W.detach().numpy()
    b = case.bias.detach().numpy() if case.bias is not None else None
    xs = np.eye(4)[case.x.numpy()] if one_hot else case.x.detach().numpy()
    state = [part.detach().numpy()[0] for part in case.states]
    expected, last = reference.run(
        cell, xs, tuple(state) if cell == "lstm" else state[0], reference.gate_weights(cell, U, W, b)
    )
    s_NH, ours = case.fast()
    np.testing.assert_allclose(s_NH.detach().numpy(), expected, rtol=1e-12, atol=1e-14)
    ours = [part.detach().numpy()[0] for part in (ours if isinstance(ours, tuple) else (ours,))]
    np.testing.assert_allclose(ours, last if cell == "lstm" else [last], rtol=1e-12, atol=1e-14)


def packed_by_torch(case, module):
    sequences = nn.utils.rnn.PackedSequence(case.x, torch.tensor(case.sizes))
    state = [part.unsqueeze(0) for part in case.states]
    output, last = module(sequences, tuple(state) if case.cell == "lstm" else state[0])
    last = tuple(p.squeeze(0) for p in last) if isinstance(last, tuple) else last.squeeze(0)
    return output.data, last


@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("bias", [False, True])
def test_plain_rnn_and_lstm_are_those_of_torch(cell, kind, bias):
    case = Case(cell, [5, 5, 3, 1], X=4, H=3, bias=bias)
    module = kind(4, 3, bias=bias).double()
    with torch.no_grad():
        weights = recurrence.torch_weights(cell, case.U, case.W, case.bias)
        for parameter, weight in zip(module.parameters(), weights, strict=True):
            parameter.copy_(weight)
    fast, theirs = case.fast(), packed_by_torch(case, module)
    torch.testing.assert_close(fast, theirs, rtol=1e-12, atol=1e-12)
    dx, dU, dW, *rest = torch.autograd.grad(case.loss(fast), case.tensors())
    db, *dstates = rest if bias else [None, *rest]
    ours = [dx, *dstates, *recurrence.torch_weights(cell, dU, dW, db)]
    if bias:
        ours[-1] = ours[-2]  # torch adds up two biases, so they have the same gradient
    theirs = torch.autograd.grad(case.loss(theirs), [case.x, *case.states, *module.parameters()])
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-11, atol=1e-12)


def test_the_gru_is_not_that_of_torch():
    case = Case("gru", [5], X=4, H=3)
    module = nn.GRU(4, 3).double()
    # torch's gates r, z, n are our r, z, h, in the same order.
    weights = {"weight_ih_l0": case.U.t(), "weight_hh_l0": case.W.t(), "bias_ih_l0": case.biases[0]}
    module.load_state_dict({**weights, "bias_hh_l0": torch.zeros(9)})
    ours, theirs = case.fast()[0], packed_by_torch(case, module)[0]
    assert (ours - theirs).abs().max() > 1e-2
    # The same where the reset gate cannot matter: without a recurrent weight for the candidate.
    with torch.no_grad():
        case.W[:, 6:].zero_()
        module.get_parameter("weight_hh_l0")[6:].zero_()
    torch.testing.assert_close(case.fast()[0], packed_by_torch(case, module)[0], rtol=1e-12, atol=1e-12)
