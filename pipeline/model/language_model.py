"""The language model: look-up, cell layers, output layer."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from pipeline.model import output
from pipeline.model.activations import ActivationCosts
from pipeline.model.arithmetic import product
from pipeline.model.cells import CELLS, GATES, State
from pipeline.model.dropping import Dropping, mask
from pipeline.model.mogrifier import mogrify, run_mogrifier
from pipeline.model.output import Precision, Sampler, Scores
from pipeline.model.packed import PackedBatch
from pipeline.model.params import ModelParams
from pipeline.model.recurrence import run_layer
from pipeline.model.streams import Carried


class Layer(nn.Module):
    """The weights of one cell, as cells.py takes them: U (X, G), W (H, G), b (G,) or None, and M, of `mogrify`."""

    def __init__(self, params: ModelParams, inputs: int, hidden_size: int) -> None:
        super().__init__()
        gates = len(GATES[params.cell]) * hidden_size
        self.U = nn.Parameter(torch.zeros(inputs, gates))
        self.W = nn.Parameter(torch.zeros(hidden_size, gates))
        self.b = nn.Parameter(torch.zeros(gates)) if params.bias else None
        between = [] if params.mogrifier_rank is None else [params.mogrifier_rank]
        ends = [(hidden_size, inputs), (inputs, hidden_size)]
        widths = [(first, *between, last) for first, last in (ends[k % 2] for k in range(params.mogrifier_rounds))]
        self.M = nn.ParameterList(torch.zeros(shape) for round_ in widths for shape in pairwise(round_))
        self._matrices = 1 + len(between)

    @property
    def rounds(self) -> list[list[Tensor]]:
        """The matrices of each round of the Mogrifier; none without one."""
        matrices = list(self.M)
        return [matrices[k : k + self._matrices] for k in range(0, len(matrices), self._matrices)]


class LanguageModel(nn.Module):
    """P(next word | words so far), by the equations of cells.py.

    Attributes:
        params: its shape.
        vocabulary_size: C.
        E: embedding (C, E), or None where words go straight to the cell.
        layers: the cells' weights.
        V: output weight (C, H), or None where E is the output weight too.
        c: output bias (C,), or None.
        dropping: what is left out at random in training mode, beside `params.dropout`.
        costs: what the loss adds for the last layer's states in training mode.
    """

    def __init__(self, params: ModelParams, vocabulary_size: int, generator: torch.Generator | None = None) -> None:
        """Build the model; its weights are drawn from `generator`, or zero without one (to be loaded)."""
        super().__init__()
        self.params = params
        self.dropping = Dropping()
        self.costs = ActivationCosts()
        self.vocabulary_size = vocabulary_size
        H, width = params.hidden_size, params.embedding_dim
        self.E = None if width is None else nn.Parameter(torch.zeros(vocabulary_size, width))
        widths = [width or vocabulary_size, *params.sizes]
        self.layers = nn.ModuleList(Layer(params, X, H) for X, H in pairwise(widths))
        self.V = None if params.tie_weights else nn.Parameter(torch.zeros(vocabulary_size, H))
        self.c = nn.Parameter(torch.zeros(vocabulary_size)) if params.output_bias else None
        if generator is not None:
            self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw all weights but the biases (DESIGN section 2, after the WildML RNN tutorial), evenly within a bound.

        The bound is 1/sqrt(n) for units with n incoming connections. The notes print sqrt(n), the tutorial that they
        summarise 1/sqrt(n); sqrt(n) would saturate tanh at once. In a look-up table one row is active at a time, so
        there n is the width of a row, unless `lookup_init` says otherwise: "incoming" is the notes' rule, which counts
        the whole vocabulary as connected, and a number is the bound itself. A `weight_init` is the bound of all, but of
        look-ups with a `lookup_init` (Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329, begin within 0.05 or 0.1).
        """

        def draw(weight: Tensor, bound: float) -> None:
            nn.init.uniform_(weight, -bound, bound, generator)

        def bound(incoming: int) -> float:
            return self.params.weight_init or 1 / sqrt(incoming)

        lookup, sizes = self.params.lookup_init, self.params.sizes
        if lookup is None:
            lookup = bound(self.params.embedding_dim or sizes[0])
        elif lookup == "incoming":
            lookup = 1 / sqrt(self.vocabulary_size)
        if self.E is not None:
            draw(self.E, lookup)
        for index, layer in enumerate(self._layers()):
            one_hot = index == 0 and self.E is None
            draw(layer.U, lookup if one_hot else bound(len(layer.U)))
            draw(layer.W, bound(len(layer.W)))
            for matrix in layer.M:
                draw(matrix, bound(len(matrix)))
        if self.V is not None:
            draw(self.V, bound(sizes[-1]))

    def hidden(
        self,
        x_N: Tensor,
        batch_sizes: Sequence[int],
        state: Sequence[State | None] | None = None,
        generator: torch.Generator | None = None,
        precision: Precision = "exact",
    ) -> tuple[Tensor, list[State]]:
        """Run all layers over a packed batch.

        Args:
            x_N: ids (N,), int64, laid out as in packed.py.
            batch_sizes: sequences at each step.
            state: where each layer starts: (B, H), for the LSTM a pair (s, c) of them; None: zero.
            generator: draws the dropout masks in training mode; None: torch's global generator.
            precision: as in `run_layer`.

        Returns:
            What the output layer reads (N, H), and each layer's last state of every sequence.
        """
        _, read_NH, last = self._run(x_N, batch_sizes, state, generator, precision)
        return read_NH, last

    def _run(
        self,
        x_N: Tensor,
        batch_sizes: Sequence[int],
        state: Sequence[State | None] | None,
        generator: torch.Generator | None,
        precision: Precision,
    ) -> tuple[Tensor, Tensor, list[State]]:
        """As `hidden`, with the last layer's states (N, H) before it."""
        dropping = self.dropping if self.training else Dropping()
        x = h = x_N
        if self.E is not None:
            x = self._dropped(embedding(x_N, self.E), generator)
            x = dropping.without_words(x, x_N, self.vocabulary_size, generator)
            rate = dropping.inputs if dropping.embedding is None else dropping.embedding
            x = dropping.locked(x, batch_sizes, rate, generator)
        last = []
        for number, (layer, before) in enumerate(zip(self._layers(), state or [None] * len(self.layers), strict=True)):
            W = dropping.without_weights(layer.W, generator)
            kept_BH = dropping.of_states(W, batch_sizes[0], len(W), generator)
            if layer.rounds:
                begin = cast(tuple[Tensor, Tensor] | None, before)
                h, after = run_mogrifier(x, batch_sizes, layer.U, W, layer.b, layer.rounds, begin, kept_BH)
            else:
                h, after = run_layer(self.params.cell, x, batch_sizes, layer.U, W, layer.b, before, precision, kept_BH)
            rate = dropping.outputs if number == len(self.layers) - 1 else dropping.inputs
            x = dropping.locked(self._dropped(h, generator), batch_sizes, rate, generator)
            last.append(after)
        return h, x, last

    def read(
        self,
        batch: PackedBatch,
        carried: Carried | None,
        generator: torch.Generator | None = None,
        precision: Precision = "exact",
    ) -> Tensor:
        """What the output layer reads of a batch (N, H); arguments as in `loss`, `precision` as in `run_layer`."""
        return self._read(batch, carried, generator, precision)[1]

    def _read(
        self, batch: PackedBatch, carried: Carried | None, generator: torch.Generator | None, precision: Precision
    ) -> tuple[Tensor, Tensor]:
        """The last layer's states (N, H), and what the output layer reads of them."""
        before = None if carried is None else carried.first(batch.batch_sizes[0])
        h_NH, read_NH, after = self._run(batch.x_N, batch.batch_sizes, before, generator, precision)
        if carried is not None:
            carried.keep(after)
        return h_NH, read_NH

    def loss(
        self,
        batch: PackedBatch,
        sampler: Sampler | None = None,
        step: int = 0,
        precision: Precision = "exact",
        generator: torch.Generator | None = None,
        carried: Carried | None = None,
    ) -> Tensor:
        """Mean nats per token of a batch; `backward` runs once, and in training mode the gradient is of `costs` too.

        Args:
            batch: what to predict.
            sampler: draws the words of a sampled softmax (a stand-in for the loss that only training uses); None: full.
            step: which draw.
            precision: of the output layer's products, and of layers as in `run_layer`.
            generator: draws the dropout masks in training mode.
            carried: where the sequences go on from, and then what the next batch does; None: each starts from zero.
        """
        h_NH, read_NH = self._read(batch, carried, generator, precision)
        V, c, y_N = self.output_weight, self.c, batch.y_N
        if sampler is None:
            nats = output.cross_entropy(read_NH, V, c, y_N, precision)
        else:
            nats = output.sampled_cross_entropy(read_NH, V, c, y_N, sampler, step, precision)
        return self.costs.added(nats, h_NH, read_NH, batch.batch_sizes) if self.training else nats

    @torch.no_grad()
    def score(self, batch: PackedBatch, carried: Carried | None = None) -> Scores:
        """Nats and rank of every target of a batch under the full softmax; `carried` as in `loss`."""
        return output.score(self.read(batch, carried), self.output_weight, self.c, batch.y_N)

    @torch.no_grad()
    def nats(self, batch: PackedBatch, carried: Carried | None = None) -> Tensor:
        """As `score`, without the ranks of the targets, which take a third of the time."""
        return output.nats(self.read(batch, carried), self.output_weight, self.c, batch.y_N)

    @torch.no_grad()
    def next_logits(self, x_B: Tensor, state: Sequence[State] | None = None) -> tuple[Tensor, list[State]]:
        """One step of the equations, without dropout.

        Args:
            x_B: the last word of each text, ids (B,), int64.
            state: what the step before returned; None: zero.

        Returns:
            Logits of the next word (B, C), and the state after this step.
        """
        x = x_B if self.E is None else self.E[x_B]
        last = []
        for layer, before in zip(self._layers(), state or self._zero_state(len(x_B)), strict=True):
            if layer.rounds:
                x, s = mogrify(x, before[0], layer.rounds)
                before = s, before[1]
            after = CELLS[self.params.cell](x, before, layer.U, layer.W, layer.b)
            x = after[0] if isinstance(after, tuple) else after
            last.append(after)
        logits_BC = product(x, self.output_weight.t())
        return logits_BC if self.c is None else logits_BC + self.c, last

    @property
    def output_weight(self) -> Tensor:
        """V (C, H), shared with the embedding where tied."""
        weight = self.E if self.V is None else self.V
        assert weight is not None  # ModelParams allows no tie without an embedding
        return weight

    def parameter_count(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    def _zero_state(self, batch: int) -> list[State]:
        zeros = [self.output_weight.new_zeros(batch, H) for H in self.params.sizes]
        return [(zero_BH, zero_BH) if self.params.cell == "lstm" else zero_BH for zero_BH in zeros]

    def _dropped(self, x_NX: Tensor, generator: torch.Generator | None) -> Tensor:
        p = self.params.dropout
        if not self.training or p == 0:
            return x_NX
        return x_NX * mask(x_NX, x_NX.shape, p, generator)
