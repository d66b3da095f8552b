"""What people use instead: a model of plain torch.nn modules, and the tutorial's RNN in NumPy."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from pipeline.text.encoded import EncodedSplit

IGNORED = -100  # target of a padded place


class PlainModel(nn.Module):
    """Embedding, recurrent module and linear layer as torch.nn has them, in fp32.

    With `one_hot` the embedding is as wide as the hidden layer and the module's own input weights do the work that
    ours does by a look-up: torch.nn has no recurrent module that takes ids.
    """

    def __init__(
        self, cell: str, C: int, E: int, H: int, layers: int, bias: bool, output_bias: bool, dropout: float,
        one_hot: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(C, H if one_hot else E)
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.recurrent = kind(H if one_hot else E, H, layers, bias=bias, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(H, C, bias=output_bias)

    def __str__(self) -> str:
        return f"nn.Embedding, nn.{type(self.recurrent).__name__}, nn.Linear"

    def loss(self, x_TB: Tensor, y_TB: Tensor) -> Tensor:
        """Mean nats a target."""
        states, _ = self.recurrent(self.dropout(self.embedding(x_TB)))
        logits = self.output(self.dropout(states))
        return functional.cross_entropy(logits.flatten(0, 1), y_TB.flatten(), ignore_index=IGNORED)


def padded(split: EncodedSplit, sentences: np.ndarray) -> tuple[Tensor, Tensor]:
    """Inputs and targets (T, B) of some sentences, filled up to the longest."""
    rows = [torch.from_numpy(split.ids[split.offsets[i] : split.offsets[i + 1]].astype(np.int64)) for i in sentences]
    return pad_sequence([row[:-1] for row in rows]), pad_sequence([row[1:] for row in rows], padding_value=IGNORED)


class TutorialRNN:
    """The WildML RNN tutorial's network, trained as there: a sentence at a time, gradients by outer products a step.

    Written from the tutorial's equations: s_t = tanh(U x_t + W s_{t-1}), o_t = softmax(V s_t), backpropagation
    through at most 4 steps.
    """

    def __init__(self, C: int, H: int, bptt_truncate: int = 4) -> None:
        generator = np.random.default_rng(0)
        self.U = generator.uniform(-(C**-0.5), C**-0.5, (H, C))
        self.V = generator.uniform(-(H**-0.5), H**-0.5, (C, H))
        self.W = generator.uniform(-(H**-0.5), H**-0.5, (H, H))
        self._truncate = bptt_truncate

    def sgd_step(self, x_T: np.ndarray, y_T: np.ndarray, learning_rate: float) -> None:
        """One update from one sentence."""
        T, H = len(x_T), len(self.W)
        s = np.zeros((T + 1, H))  # s[-1] is the state before the first word
        o = np.zeros((T, len(self.V)))
        for t in range(T):
            s[t] = np.tanh(self.U[:, x_T[t]] + self.W @ s[t - 1])
            logits = self.V @ s[t]
            exponentials = np.exp(logits - logits.max())
            o[t] = exponentials / exponentials.sum()
        o[np.arange(T), y_T] -= 1.0  # now the gradient by the logits
        dU, dV, dW = np.zeros_like(self.U), np.zeros_like(self.V), np.zeros_like(self.W)
        for t in reversed(range(T)):
            dV += np.outer(o[t], s[t])
            da = (self.V.T @ o[t]) * (1 - s[t] ** 2)
            for step in range(t, max(0, t - self._truncate) - 1, -1):
                dW += np.outer(da, s[step - 1])
                dU[:, x_T[step]] += da
                da = (self.W.T @ da) * (1 - s[step - 1] ** 2)
        self.U -= learning_rate * dU
        self.V -= learning_rate * dV
        self.W -= learning_rate * dW


class WordLanguageModel(nn.Module):
    """The LSTM of PyTorch's example word_language_model, written after its description: encoder, LSTM, decoder.

    It reads sequences (T, B) of ids, from the state that it is given, and returns log probabilities (T * B, C).
    """

    def __init__(self, C: int, E: int, H: int, layers: int) -> None:
        super().__init__()
        self.encoder = nn.Embedding(C, E)
        self.rnn = nn.LSTM(E, H, layers)
        self.decoder = nn.Linear(H, C)
        self._shape = (layers, 1, H)

    def init_hidden(self) -> tuple[Tensor, Tensor]:
        """The state before a sequence."""
        return torch.zeros(self._shape), torch.zeros(self._shape)

    def forward(self, x_TB: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log probabilities of what follows each word, and the state after the last."""
        states, hidden = self.rnn(self.encoder(x_TB), hidden)
        return functional.log_softmax(self.decoder(states).flatten(0, 1), dim=1), hidden
