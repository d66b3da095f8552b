"""Weights to and from torch.nn's, for the two cells that torch.nn has too: the plain RNN and the LSTM.

torch.nn keeps weights untransposed (G, X), orders the LSTM's gates i, f, g, o, and adds two biases where one is enough.
torch.nn.GRU is not here: its reset gate acts after the recurrent product, so no weights make it the GRU of cells.py.
"""

import torch
from torch import Tensor, nn

from pipeline.model.cells import GATES

TORCH_GATES = {"rnn": ("s",), "lstm": ("i", "f", "g", "o")}


def from_torch(module: nn.RNN | nn.LSTM, layer: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    """U (X, G), W (H, G) and b (G,) of one layer of a torch.nn module, its two biases added up.

    Raises:
        ValueError: the module is not a plain tanh RNN or LSTM of one direction.
    """
    cell = _cell(module)
    ours, theirs = GATES[cell], TORCH_GATES[cell]
    with torch.no_grad():
        U, W = (_reordered(module.get_parameter(f"weight_{kind}_l{layer}"), theirs, ours).t() for kind in ("ih", "hh"))
        if not module.bias:
            return U.contiguous(), W.contiguous(), None
        b = module.get_parameter(f"bias_ih_l{layer}") + module.get_parameter(f"bias_hh_l{layer}")
        return U.contiguous(), W.contiguous(), _reordered(b, theirs, ours)


def to_torch(module: nn.RNN | nn.LSTM, U: Tensor, W: Tensor, b: Tensor | None, layer: int = 0) -> None:
    """Copy U (X, G), W (H, G) and b (G,) into one layer of a torch.nn module; its second bias becomes zero.

    Raises:
        ValueError: the module is not a plain tanh RNN or LSTM of one direction, or has biases where `b` is None or the
            other way round.
    """
    cell = _cell(module)
    if module.bias != (b is not None):
        raise ValueError(f"the module has bias={module.bias}, the weights have {'one' if b is not None else 'none'}")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    with torch.no_grad():
        for name, weight in zip(names, torch_weights(cell, U, W, b), strict=False):
            module.get_parameter(f"{name}_l{layer}").copy_(weight)


def torch_weights(cell: str, U: Tensor, W: Tensor, b: Tensor | None) -> list[Tensor]:
    """U (X, G), W (H, G) and b (G,) as torch.nn takes them: (G, X), (G, H), and twice (G,) where `b` is not None.

    Gradients flow back through it.
    """
    ours, theirs = GATES[cell], TORCH_GATES[cell]
    weights = [_reordered(weight.t(), ours, theirs) for weight in (U, W)]
    return weights if b is None else [*weights, _reordered(b, ours, theirs), torch.zeros_like(b)]


def _cell(module: nn.RNN | nn.LSTM) -> str:
    plain = isinstance(module, nn.RNN) and module.nonlinearity == "tanh"
    if not (plain or isinstance(module, nn.LSTM)) or module.bidirectional or module.proj_size:
        raise ValueError(f"{module} is not a plain tanh RNN or LSTM of one direction")
    return "rnn" if plain else "lstm"


def _reordered(weight_GX: Tensor, before: tuple[str, ...], after: tuple[str, ...]) -> Tensor:
    blocks = dict(zip(before, weight_GX.chunk(len(before)), strict=True))
    return torch.cat([blocks[gate] for gate in after])
