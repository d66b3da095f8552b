"""Arithmetic whose result is the same to the last bit, whatever x86-64 processor has AVX2 and however many threads.

Libraries choose code by the maker of the processor and the shape of the work, and split work among threads. What is
here asks them only for what comes out the same whoever does it; docs/reproducibility.md says how that was found.

- **Products.** With `MKL_CBWR=AVX2,STRICT` (pipeline/runtime/settings.py) an element of a product is a chain of fused
  multiply-adds in the order of its terms, in Intel's code and in AMD's, unless there are more than 192 terms, or very
  few rows or columns for a thread: then each maker has code of its own. So longer sums are added up from pieces, and
  small products are filled up. An element then depends on its own row and column, not on how many others there are.
- **Functions.** `sigmoid` of torch is other code for the last few numbers of a piece of work, so it depends on where
  threads share it out; `exp`, `log` and `logsumexp` are MKL's, one for Intel's and one for others' processors. `tanh`,
  `softmax` and `log_softmax` are neither, and so what is here comes from them.
- **Sums.** Over a whole tensor, threads add up parts, and over rows the last few columns of each thread are added up in
  another order. So few numbers are summed at a time, which threads do not share, or a product with ones sums them.

Shape suffixes: N rows, K terms of a sum, M columns.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

LONGEST_SUM = 128  # terms
FEWEST_ROWS, FEWEST_COLUMNS = 8, 32
LEAST_SHARE = 16  # rows or columns for each thread
LONGEST_ALONE = 1 << 14  # numbers that torch never shares out among threads


def product(a_NK: Tensor, b_KM: Tensor, out: Tensor | None = None) -> Tensor:
    """The matrix product (N, M), in a new tensor or in `out`."""
    c_NM = a_NK.new_empty(len(a_NK), b_KM.shape[1]) if out is None else out
    return _accumulate(c_NM, a_NK, b_KM, keep=0)


def add_product(c_NM: Tensor, a_NK: Tensor, b_KM: Tensor) -> Tensor:
    """Add the matrix product of `a_NK` and `b_KM` to `c_NM` in place; returns `c_NM`."""
    return _accumulate(c_NM, a_NK, b_KM, keep=1)


def _accumulate(c_NM: Tensor, a_NK: Tensor, b_KM: Tensor, keep: int) -> Tensor:
    """Make `c_NM` `keep` times itself plus the product."""
    (N, M), K = c_NM.shape, len(b_KM)
    if c_NM.is_cuda:
        return c_NM.addmm_(a_NK, b_KM, beta=keep)
    shared = LEAST_SHARE * torch.get_num_threads()
    fewest_columns = max(FEWEST_COLUMNS, shared) if shared > N else FEWEST_COLUMNS
    if N < FEWEST_ROWS or fewest_columns > M:
        rows, columns = max(FEWEST_ROWS - N, 0), max(fewest_columns - M, 0)
        filled = pad(c_NM, (0, columns, 0, rows)) if keep else c_NM.new_empty(N + rows, M + columns)
        wide = pad(b_KM, (0, columns)) if columns else b_KM  # which `pad` would copy in any case
        _accumulate(filled, pad(a_NK, (0, 0, 0, rows)), wide, keep)
        return c_NM.copy_(filled[:N, :M])
    if K <= LONGEST_SUM:
        return c_NM.addmm_(a_NK, b_KM, beta=keep)
    for a, b in zip(a_NK.split(LONGEST_SUM, dim=1), b_KM.split(LONGEST_SUM), strict=True):
        c_NM.addmm_(a, b, beta=keep)
        keep = 1
    return c_NM


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), as (1 + tanh(x / 2)) / 2; differs from it by at most a rounding of 1."""
    return torch.tanh(x * 0.5) * 0.5 + 0.5


def log(x_N: Tensor) -> Tensor:
    """ln x of numbers of 1 and more, to within a rounding or two."""
    return torch.log1p(x_N - 1)


def column_sums(x_NM: Tensor) -> Tensor:
    """The sum of all rows: (M,)."""
    return product(x_NM.new_ones(1, len(x_NM)), x_NM)[0]


def total(x_N: Tensor) -> Tensor:
    """The sum of all numbers of a vector, a scalar."""
    return torch.stack([part_N.sum() for part_N in x_N.split(LONGEST_ALONE)]).sum()
