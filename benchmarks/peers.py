"""What people use instead: models of plain torch.nn modules, one with its training, and the tutorial's RNN in NumPy."""

import math
from collections.abc import Callable

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


class MogrifierLSTM(nn.Module):
    """The Mogrifier as people write it: rounds of nn.Linear before each step of nn.LSTMCell, gradients by autograd.

    It reads (T, B, H) and returns the states, of the same shape. Inputs are as wide as the state.
    """

    def __init__(self, H: int, rounds: int) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(nn.Linear(H, H, bias=False) for _ in range(rounds))
        self.cell = nn.LSTMCell(H, H)

    def forward(self, x_TBH: Tensor) -> Tensor:
        """The state after each step, from state zero."""
        s_BH = c_BH = torch.zeros_like(x_TBH[0])
        states = []
        for x_BH in x_TBH:
            for number, linear in enumerate(self.rounds):
                if number % 2 == 0:
                    x_BH = 2 * torch.sigmoid(linear(s_BH)) * x_BH
                else:
                    s_BH = 2 * torch.sigmoid(linear(x_BH)) * s_BH
            s_BH, c_BH = self.cell(x_BH, (s_BH, c_BH))
            states.append(s_BH)
        return torch.stack(states)


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

    def __init__(self, C: int, E: int, H: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.Embedding(C, E)
        self.rnn = nn.LSTM(E, H, layers, dropout=dropout if layers > 1 else 0.0)
        self.decoder = nn.Linear(H, C)
        self._layers, self._H = layers, H
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def init_hidden(self, sequences: int = 1) -> tuple[Tensor, Tensor]:
        """The state before so many sequences."""
        shape = self._layers, sequences, self._H
        return torch.zeros(shape), torch.zeros(shape)

    def forward(self, x_TB: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log probabilities of what follows each word, and the state after the last."""
        states, hidden = self.rnn(self.dropout(self.encoder(x_TB)), hidden)
        return functional.log_softmax(self.decoder(self.dropout(states)).flatten(0, 1), dim=1), hidden


class WordLanguageModelTraining:
    """How word_language_model trains that LSTM by default, written after its description.

    Two layers of 200 units, 20 streams, windows of 35, plain SGD at a rate of 20 that is divided by 4 after an epoch
    without a better validation loss, gradients clipped at a norm of 0.25, the weights of the best epoch in the end.

    Checked on 2026-11-26 against the example itself, on the first 4,300 lines of Penn Treebank's training text with the
    same seed: at each of its six reports of an epoch the training perplexity was the same to all digits that it prints
    (2904.99 at step 20, 752.19 at step 120), and an epoch took as long.

    One thing differs: validation reads every token of a text, in ten streams as there, where the example leaves out the
    first of each stream and what does not fill ten of them: ten of Penn Treebank's 73,760.

    Args:
        C: ids.
        train_N: the training text, int64, sentence ends included.
        valid_N: likewise for validation, after one sentence end, which is not predicted.
        between: called after every step, and every window of a validation.
    """

    STREAMS, VALIDATION_STREAMS, BPTT, CLIP, SEED = 20, 10, 35, 0.25, 1111

    def __init__(self, C: int, train_N: Tensor, valid_N: Tensor, between: Callable[[], object]) -> None:
        torch.manual_seed(self.SEED)
        self.model = WordLanguageModel(C, E=200, H=200, layers=2, dropout=0.2)
        self.rate = 20.0
        steps = len(train_N) // self.STREAMS
        self._train_TB = train_N[: steps * self.STREAMS].view(self.STREAMS, steps).t().contiguous()
        self._valid_N, self._between = valid_N, between
        self._best_nats, self._best = math.inf, self.model.state_dict()

    def epoch(self) -> float:
        """Train for an epoch; returns the validation perplexity after it."""
        self._train_epoch()
        nats = self.nats(self._valid_N, self._between)
        if not self._keep_if_best(nats):
            self.rate /= 4
        return math.exp(nats)

    def end(self) -> float:
        """Leave the best weights in the model, those of now included; returns their validation perplexity."""
        self._keep_if_best(self.nats(self._valid_N))
        self.model.load_state_dict(self._best)
        return math.exp(self._best_nats)

    def _keep_if_best(self, nats: float) -> bool:
        better = nats < self._best_nats
        if better:
            self._best_nats = nats
            self._best = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        return better

    def _train_epoch(self) -> None:
        self.model.train()
        hidden = self.model.init_hidden(self.STREAMS)
        steps = len(self._train_TB) - 1
        for start in range(0, steps, self.BPTT):
            end = min(start + self.BPTT, steps)
            log_p, (h, c) = self.model(self._train_TB[start:end], hidden)
            hidden = h.detach(), c.detach()
            self.model.zero_grad()
            functional.nll_loss(log_p, self._train_TB[start + 1 : end + 1].flatten()).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.CLIP)
            with torch.no_grad():
                for weight in self.model.parameters():
                    if weight.grad is not None:
                        weight.add_(weight.grad, alpha=-self.rate)
            self._between()

    @torch.no_grad()
    def nats(self, text_N: Tensor, between: Callable[[], object] = lambda: None) -> float:
        """Mean nats a token of a text, its first left out; what does not fill ten streams comes after the last one."""
        self.model.eval()
        streams, tokens = self.VALIDATION_STREAMS, len(text_N) - 1
        steps = tokens // streams
        x_TB, y_TB = (text_N[ahead : ahead + steps * streams].view(streams, steps).t() for ahead in (0, 1))
        hidden, nats = self.model.init_hidden(streams), 0.0
        for start in range(0, steps, self.BPTT):
            window = slice(start, start + self.BPTT)
            log_p, hidden = self.model(x_TB[window], hidden)
            nats += functional.nll_loss(log_p, y_TB[window].flatten(), reduction="sum").item()
            between()
        left_N = text_N[steps * streams :]
        if len(left_N) > 1:
            last = hidden[0][:, -1:].contiguous(), hidden[1][:, -1:].contiguous()
            log_p, _ = self.model(left_N[:-1, None], last)
            nats += functional.nll_loss(log_p, left_N[1:], reduction="sum").item()
        return nats / tokens
