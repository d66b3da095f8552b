import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.model import arithmetic
from pipeline.model.arithmetic import add_product, column_sums, log, product, sigmoid, total

SHAPES = [(1, 7, 5), (3, 100, 400), (8, 128, 32), (9, 129, 33), (40, 300, 24), (131, 400, 17), (200, 257, 300)]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


def chain(c_NM: torch.Tensor, a_NK: torch.Tensor, b_KM: torch.Tensor) -> torch.Tensor:
    """What a product is said to be: of up to 128 terms at a time, fused multiply-adds in their order."""
    c, a, b = (part.numpy().astype(np.longdouble) for part in (c_NM, a_NK, b_KM))
    for start in range(0, len(b), 128):
        piece = np.zeros_like(c)
        for k in range(start, min(start + 128, len(b))):
            # Multiplied exactly in 64 bits, so that the sum alone is rounded.
            piece = (piece + a[:, k : k + 1] * b[k]).astype(np.float32).astype(np.longdouble)
        c = (c + piece).astype(np.float32).astype(np.longdouble)
    return torch.from_numpy(c.astype(np.float32))


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_a_chain_of_fused_multiply_adds(shape, threads) -> None:
    N, K, M = shape
    a_NK, b_KM, c_NM = numbers(N, K), numbers(K, M, seed=1), numbers(N, M, seed=2)
    torch.set_num_threads(threads)
    assert torch.equal(product(a_NK, b_KM), chain(torch.zeros(N, M), a_NK, b_KM))
    wide = torch.full((N, 3 * M), 7.0)
    assert torch.equal(product(a_NK.t().contiguous().t(), b_KM, out=wide[:, M : 2 * M]), wide[:, M : 2 * M])
    assert torch.equal(wide[:, M : 2 * M], product(a_NK, b_KM))
    assert torch.equal(wide[:, :M], torch.full((N, M), 7.0))
    assert torch.equal(wide[:, 2 * M :], wide[:, :M])
    assert torch.equal(add_product(c_NM.clone(), a_NK, b_KM.t().contiguous().t()), chain(c_NM, a_NK, b_KM))


def test_threads_and_other_rows_change_no_row_of_a_product() -> None:
    draw = random.Random(0)
    for _ in range(60):
        N, K, M = draw.randint(1, 150), draw.randint(1, 300), draw.choice([draw.randint(1, 60), draw.randint(60, 900)])
        a_NK, b_KM = numbers(N, K), numbers(K, M)
        torch.set_num_threads(1)
        whole, first, rows = product(a_NK, b_KM), draw.randrange(N), draw.randint(1, N)
        for threads in (1, 2, 3, 7, 64):
            torch.set_num_threads(threads)
            assert torch.equal(product(a_NK, b_KM), whole), (N, K, M, threads)
            assert torch.equal(product(a_NK[first : first + rows], b_KM), whole[first : first + rows])


@pytest.mark.parametrize(("name", "value"), [("LEAST_SHARE", 0), ("FEWEST_ROWS", 1), ("LONGEST_SUM", 10**6)])
def test_without_one_of_its_bounds_a_product_depends_on_the_machine(name, value, monkeypatch) -> None:
    if name != "LONGEST_SUM" and "AuthenticAMD" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("MKL's code for Intel's processors gives small products as large ones, AMD's does not")
    monkeypatch.setattr(arithmetic, name, value)
    found = []
    for N, K, M in ((2, 100, 650), (8, 100, 40), (40, 300, 64)):
        a_NK, b_KM = numbers(N, K), numbers(K, M)
        for threads in (1, 16):
            torch.set_num_threads(threads)
            found.append(torch.equal(product(a_NK, b_KM), chain(torch.zeros(N, M), a_NK, b_KM)))
    assert not all(found)


def test_products_have_gradients() -> None:
    a_NK, b_KM = numbers(5, 130).double().requires_grad_(), numbers(130, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: product(a, b).sin(), (a_NK, b_KM))


def test_sigmoid_is_within_a_rounding_of_one() -> None:
    x = torch.linspace(-30, 30, 100_001)
    assert (sigmoid(x).double() - torch.sigmoid(x.double())).abs().max() < 2**-24
    assert sigmoid(torch.tensor([-1e30, 0.0, 1e30])).tolist() == [0.0, 0.5, 1.0]


def test_log_of_numbers_of_one_and_more() -> None:
    x = torch.cat((torch.linspace(1, 2, 10_001), torch.logspace(0, 30, 10_001)))
    torch.testing.assert_close(log(x).double(), torch.log(x.double()), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_sums_are_added_up_in_one_order(threads) -> None:
    x_N, x_NM = numbers(100_000), numbers(1000, 36)
    torch.set_num_threads(1)
    alone, columns = total(x_N), column_sums(x_NM)
    torch.set_num_threads(threads)
    assert torch.equal(total(x_N), alone)
    assert torch.equal(column_sums(x_NM), columns)
    torch.testing.assert_close(alone.double(), x_N.double().sum(), rtol=0, atol=1e-2)
    torch.testing.assert_close(columns.double(), x_NM.double().sum(0), rtol=0, atol=1e-3)
