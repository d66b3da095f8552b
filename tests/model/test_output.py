import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, linear

from pipeline.model import output
from pipeline.model.output import Sampler


def layer(N, H, C, bias=True, dtype=torch.float32, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    h_NH = torch.randn(N, H, generator=generator, dtype=dtype).requires_grad_()
    V_CH = (torch.randn(C, H, generator=generator, dtype=dtype) * scale).requires_grad_()
    c_C = torch.randn(C, generator=generator, dtype=dtype).requires_grad_() if bias else None
    y_N = torch.randint(C, (N,), generator=generator)
    return h_NH, V_CH, c_C, y_N


def with_gradients(loss, *tensors):
    wanted = [t for t in tensors if t is not None]
    # Not 1, so that the gradient handed in counts.
    return loss.detach(), torch.autograd.grad(loss * 3, wanted)


def relative_error(ours, exact):
    return float((ours.double() - exact.double()).norm() / exact.double().norm())


@settings(max_examples=60, deadline=None)
@given(
    N=st.integers(1, 40),
    H=st.integers(1, 6),
    C=st.integers(2, 30),
    bias=st.booleans(),
    seed=st.integers(0, 100),
)
def test_full_loss_and_gradients_equal_plain_torch(N, H, C, bias, seed):
    h_NH, V_CH, c_C, y_N = layer(N, H, C, bias, torch.float64, seed)
    ours = with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N), h_NH, V_CH, c_C)
    theirs = with_gradients(cross_entropy(linear(h_NH, V_CH, c_C), y_N), h_NH, V_CH, c_C)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_rounding_stays_small(precision, tolerance):
    h_NH, V_CH, c_C, y_N = layer(300, 50, 1000, scale=0.3)
    assert c_C is not None
    loss, gradients = with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N, precision), h_NH, V_CH, c_C)
    wide = [t.detach().double().requires_grad_() for t in (h_NH, V_CH, c_C)]
    exact, exact_gradients = with_gradients(cross_entropy(linear(*wide), y_N), *wide)
    assert relative_error(loss, exact) < tolerance
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        assert relative_error(ours, theirs) < tolerance


def test_logits_far_apart_neither_overflow_nor_vanish():
    h_NH = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    V_CH = torch.tensor([[500.0], [0.0], [-500.0]], requires_grad=True)
    y_N = torch.tensor([2, 2])
    loss, (dh_NH,) = with_gradients(output.cross_entropy(h_NH, V_CH, None, y_N), h_NH)
    assert loss.item() == pytest.approx(500.0)
    assert dh_NH[0].item() == pytest.approx(3 * 1000 / 2)


@pytest.mark.parametrize(("N", "C"), [(700, 10000), (2048, 8000), (5, 300000)])
def test_never_more_than_an_eighth_of_the_logits_at_once(N, C):
    h_NH, V_CH = torch.zeros(N, 1), torch.zeros(C, 1)
    sizes = [len(logits) for _, logits in output._blocks_of_logits(h_NH, V_CH, None)]
    assert sum(sizes) == N
    assert max(sizes) * 8 <= N or max(sizes) == 1


def test_logits_that_fit_into_the_cache_are_one_block():
    sizes = [len(logits) for _, logits in output._blocks_of_logits(torch.zeros(1000, 1), torch.zeros(1000, 1), None)]
    assert sizes == [1000]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True])
def test_blocks_change_nothing(precision, bias, monkeypatch):
    h_NH, V_CH, c_C, y_N = layer(100, 8, 50, bias)
    tensors = [t for t in (h_NH, V_CH, c_C) if t is not None]
    whole = with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N, precision), *tensors)
    monkeypatch.setattr(output, "BLOCK_BYTES", 1000)
    blocks = with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N, precision), *tensors)
    torch.testing.assert_close(blocks, whole, rtol=1e-4 if precision == "fp32" else 2e-2, atol=1e-2)


def test_backward_runs_once_and_says_so():
    h_NH, V_CH, c_C, y_N = layer(4, 2, 5)
    loss = output.cross_entropy(h_NH, V_CH, c_C, y_N)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward runs once"):
        loss.backward()


def zipf_counts(C):
    return [int(1000 / (rank + 1)) for rank in range(C)]


def test_sampled_with_every_word_included_is_the_full_softmax():
    h_NH, V_CH, c_C, y_N = layer(20, 4, 30, dtype=torch.float64)
    sampler = Sampler(zipf_counts(30), words=30, power=0.5, seed=1)
    loss = output.sampled_cross_entropy(h_NH, V_CH, c_C, y_N, sampler, step=7, precision="fp32")
    ours = with_gradients(loss, h_NH, V_CH, c_C)
    full = with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N), h_NH, V_CH, c_C)
    torch.testing.assert_close(ours, full, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
def test_sampled_loss_equals_its_definition(bias):
    h_NH, V_CH, c_C, y_N = layer(6, 3, 50, bias, torch.float64)
    sampler = Sampler(zipf_counts(50), words=10, power=0.5, seed=3)
    ours = with_gradients(output.sampled_cross_entropy(h_NH, V_CH, c_C, y_N, sampler, 5, "fp32"), h_NH, V_CH, c_C)
    targets, drawn = set(y_N.tolist()), set(sampler.draw(5).tolist())
    logits_NC = linear(h_NH, V_CH, c_C)
    for word in range(50):
        if word not in targets:
            lowered = logits_NC[:, word] - sampler.log_inclusion_C[word].double()
            left_out = torch.full_like(lowered, -torch.inf)
            logits_NC = logits_NC.clone()
            logits_NC[:, word] = lowered if word in drawn else left_out
    theirs = with_gradients(cross_entropy(logits_NC, y_N), h_NH, V_CH, c_C)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_expected_sampled_gradient_comes_near_the_full_one_as_more_words_are_drawn():
    C = 200
    h_NH, V_CH, c_C, y_N = layer(30, 8, C, dtype=torch.float64, scale=0.3)
    y_N %= 20
    full = torch.cat([g.flatten() for g in with_gradients(output.cross_entropy(h_NH, V_CH, c_C, y_N), V_CH, c_C)[1]])
    errors = []
    for words in (10, 40, 160):
        sampler = Sampler(zipf_counts(C), words, power=0.5, seed=1)
        mean = torch.zeros_like(full)
        for step in range(300):
            loss = output.sampled_cross_entropy(h_NH, V_CH, c_C, y_N, sampler, step, "fp32")
            mean += torch.cat([g.flatten() for g in with_gradients(loss, V_CH, c_C)[1]]) / 300
        errors.append(float((mean - full).norm() / full.norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_words_are_drawn_as_often_as_their_logarithm_says():
    sampler = Sampler([0, *zipf_counts(60)], words=20, power=0.5, seed=1)
    steps = 4000
    drawn = [sampler.draw(step) for step in range(steps)]
    share_C = torch.bincount(torch.cat(drawn), minlength=61) / steps
    inclusion_C = sampler.log_inclusion_C.exp()
    assert inclusion_C.sum().item() == pytest.approx(20, rel=1e-5)
    assert inclusion_C.max() <= 1
    # Six standard deviations; a word that never is a target can be drawn too.
    np.testing.assert_allclose(share_C, inclusion_C, atol=6 * 0.5 / np.sqrt(steps))
    assert 0 < inclusion_C[0] < inclusion_C[1:].min()
    for words in drawn[:50]:
        assert len(words) == 20
        assert (words[1:] > words[:-1]).all()


def test_draws_are_a_function_of_seed_and_step():
    def draws(seed, step):
        return Sampler(zipf_counts(60), words=20, power=0.5, seed=seed).draw(step).tolist()

    assert draws(1, 2) == draws(1, 2)
    assert draws(1, 2) != draws(1, 3)
    assert draws(1, 2) != draws(2, 2)


@pytest.mark.parametrize("bias", [False, True])
def test_scores_equal_their_definition(bias):
    h_NH, V_CH, c_C, y_N = layer(50, 4, 30, bias)
    scores = output.score(h_NH.detach(), V_CH.detach(), None if c_C is None else c_C.detach(), y_N)
    log_p_NC = torch.log_softmax(linear(h_NH, V_CH, c_C).detach().double(), 1)
    expected = -log_p_NC[torch.arange(50), y_N]
    torch.testing.assert_close(scores.nats_N.double(), expected, rtol=1e-5, atol=1e-6)
    order = log_p_NC.argsort(dim=1, descending=True)
    assert scores.rank_N.tolist() == (order == y_N[:, None]).nonzero()[:, 1].tolist()


def test_auto_is_bf16_where_the_processor_multiplies_it(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in (
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_f": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert output.uses_bf16("auto", cpu) is expected
        assert output.uses_bf16("bf16", cpu)
        assert not output.uses_bf16("fp32", cpu)
