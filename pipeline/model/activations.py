"""What large and restless activations of the last layer cost in training (Merity, McCann and Socher 2017, "Revisiting
activation regularization for language RNNs", arXiv:1708.01009).

- **AR**: alpha times the mean square of m * h_t, what the output layer reads after its dropout m.
- **TAR**: beta times the mean square of h_t - h_{t-1}, before dropout, over the steps of a batch that have one before.

Means are over rows and units, as in the code of AWD-LSTM (Merity, Keskar and Socher 2017, arXiv:1708.02182), where
alpha is 2 and beta 1.

Shape suffixes: N rows of a packed batch, H hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pipeline.model.arithmetic import total
from pipeline.model.packed import previous_rows


@dataclass(frozen=True)
class ActivationCosts:
    """Factors of both; at 0 nothing is computed."""

    size: float = 0.0  # alpha
    change: float = 0.0  # beta

    def added(self, nats: Tensor, h_NH: Tensor, read_NH: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """`nats`, a scalar, whose gradient is that of `nats` and costs together: what is reported stays a loss in nats.

        Args:
            nats: the loss.
            h_NH: the states of the last layer, laid out as in packed.py.
            read_NH: the same after dropout.
            batch_sizes: sequences at each step.
        """
        costs = []
        if self.size:
            costs.append(self.size * _mean_square(read_NH))
        if self.change and len(h_NH) > batch_sizes[0]:
            before_NH = h_NH.index_select(0, previous_rows(batch_sizes).to(h_NH.device))
            costs.append(self.change * _mean_square(h_NH[batch_sizes[0] :] - before_NH))
        for cost in costs:
            nats = nats + (cost - cost.detach())
        return nats


def _mean_square(x: Tensor) -> Tensor:
    return total((x * x).flatten()) / x.numel()
