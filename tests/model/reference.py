"""DESIGN section 2 in NumPy and float64: columns, one matrix a gate, written apart from the product's code."""

import numpy as np
import torch

from pipeline.model.cells import CELLS


def sigma(a):
    return 1 / (1 + np.exp(-a))


def softmax(o):
    e = np.exp(o - o.max())
    return e / e.sum()


def rnn_step(x, state, w):
    return np.tanh(w["U"] @ x + w["W"] @ state + w["b"])


def lstm_step(x, state, w):
    s, c = state
    i = sigma(w["Ui"] @ x + w["Wi"] @ s + w["bi"])
    f = sigma(w["Uf"] @ x + w["Wf"] @ s + w["bf"])
    o = sigma(w["Uo"] @ x + w["Wo"] @ s + w["bo"])
    g = np.tanh(w["Ug"] @ x + w["Wg"] @ s + w["bg"])
    c = c * f + g * i
    return np.tanh(c) * o, c


def gru_step(x, state, w):
    z = sigma(w["Uz"] @ x + w["Wz"] @ state + w["bz"])
    r = sigma(w["Ur"] @ x + w["Wr"] @ state + w["br"])
    h = np.tanh(w["Uh"] @ x + w["Wh"] @ (state * r) + w["bh"])
    return (1 - z) * h + z * state


STEPS = {"rnn": rnn_step, "lstm": lstm_step, "gru": gru_step}
GATE_NAMES = {"rnn": [""], "lstm": ["o", "i", "f", "g"], "gru": ["r", "z", "h"]}


def step_reading(kept, cell, x, state, U, W, b):
    """As cells.py in torch, the recurrent products reading `state` times `kept`, and nothing else doing so."""
    if cell == "lstm":
        return CELLS[cell](x, (state[0] * kept, state[1]), U, W, b)
    if cell == "rnn":
        return CELLS[cell](x, state * kept, U, W, b)
    inputs = (x @ U if x.is_floating_point() else U[x]) + (0 if b is None else b)
    (a_r, a_z, a_h), (W_r, W_z, W_h) = inputs.chunk(3, dim=1), W.chunk(3, dim=1)
    r, z = torch.sigmoid(a_r + (state * kept) @ W_r), torch.sigmoid(a_z + (state * kept) @ W_z)
    return (1 - z) * torch.tanh(a_h + (state * kept * r) @ W_h) + z * state


def gate_weights(cell, U, W, b):
    """The product's U (X, G), W (H, G), b (G,) as one matrix (H, X) or (H, H) and one vector a gate."""
    names, H = GATE_NAMES[cell], W.shape[0]
    weights = {}
    for k, name in enumerate(names):
        block = slice(k * H, (k + 1) * H)
        weights["U" + name] = U[:, block].T
        weights["W" + name] = W[:, block].T
        weights["b" + name] = np.zeros(H) if b is None else b[block]
    return weights


def run(cell, xs, state, weights):
    """The states s_1..s_T of one sequence, and its last state."""
    states = []
    for x in xs:
        state = STEPS[cell](x, state, weights)
        states.append(state[0] if cell == "lstm" else state)
    return np.array(states), state
