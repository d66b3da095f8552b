"""The three cells, one time step each, as DESIGN section 2 writes them. Start reading here.

The plain RNN and the LSTM are those of the WildML RNN tutorial (LSTM: Hochreiter and Schmidhuber 1997, with Gers'
forget gate); the GRU is that of Cho et al. 2014, whose reset gate acts before the recurrent product. torch.nn.GRU
applies it after, which is a different model.

The design multiplies a column, U x; here a row of x is one sequence's x_t, so the same product reads x @ U, and U, W
are stored transposed, those of a cell's gates side by side. A word x_t that is one-hot picks a row of U.

These functions are what generation runs. recurrence.py computes the same over whole sequences, faster, and the tests
prove the two equal.

Shape suffixes: B sequences, X inputs (the vocabulary where x is one-hot), H hidden units, G all gates together.
"""

from collections.abc import Callable

from torch import Tensor, tanh

from pipeline.model.arithmetic import product, sigmoid

State = Tensor | tuple[Tensor, Tensor]

# Blocks of columns in U, W and b, in their order. Sigmoid gates stand together, and so do gates with one and the same
# gradient factor, because recurrence.py works on each such run of columns at once.
GATES = {"rnn": ("s",), "lstm": ("o", "i", "f", "g"), "gru": ("r", "z", "h")}


def rnn(x: Tensor, s: Tensor, U: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """s_t of the plain RNN: x (B,) ids or (B, X), s (B, H), U (X, H), W (H, H), b (H,) or None."""
    return tanh(_product(x, U) + _product(s, W) + _or_zero(b))


def lstm(x: Tensor, state: tuple[Tensor, Tensor], U: Tensor, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """(s_t, c_t) of the LSTM: x (B,) ids or (B, X), state two of (B, H), U (X, 4H), W (H, 4H), b (4H,) or None."""
    s, c = state
    U_o, U_i, U_f, U_g = U.chunk(4, dim=1)
    W_o, W_i, W_f, W_g = W.chunk(4, dim=1)
    b_o, b_i, b_f, b_g = (0.0,) * 4 if b is None else b.chunk(4)
    i = sigmoid(_product(x, U_i) + _product(s, W_i) + b_i)
    f = sigmoid(_product(x, U_f) + _product(s, W_f) + b_f)
    o = sigmoid(_product(x, U_o) + _product(s, W_o) + b_o)
    g = tanh(_product(x, U_g) + _product(s, W_g) + b_g)
    c = c * f + g * i
    return tanh(c) * o, c


def gru(x: Tensor, s: Tensor, U: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """s_t of the GRU: x (B,) ids or (B, X), s (B, H), U (X, 3H), W (H, 3H), b (3H,) or None."""
    U_r, U_z, U_h = U.chunk(3, dim=1)
    W_r, W_z, W_h = W.chunk(3, dim=1)
    b_r, b_z, b_h = (0.0,) * 3 if b is None else b.chunk(3)
    z = sigmoid(_product(x, U_z) + _product(s, W_z) + b_z)
    r = sigmoid(_product(x, U_r) + _product(s, W_r) + b_r)
    h = tanh(_product(x, U_h) + _product(s * r, W_h) + b_h)
    return (1 - z) * h + z * s


CELLS: dict[str, Callable[..., State]] = {"rnn": rnn, "lstm": lstm, "gru": gru}


def _product(x: Tensor, U: Tensor) -> Tensor:
    """U x: a product, or for ids of one-hot words the look-up that it comes to."""
    return product(x, U) if x.is_floating_point() else U[x]


def _or_zero(b: Tensor | None) -> Tensor | float:
    return 0.0 if b is None else b
