"""The rows of adapted models in the comparison, each below the network that it is of, and what was chosen for them."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.params import JOINT
from pipeline.evaluation.results import Row
from pipeline.evaluation.scores import ADAPTED

# Of what was chosen: its key in metrics.json, and how it is told.
CHOSEN = {
    "dynamic_rate": "rate {:g}",
    "softmax_temperature": "temperature {:g}",
    "cache_window": "window {:d}",
    "cache_theta": "theta {:g}",
    "cache_weight": "cache {:g}",
    "interpolation_weight": "5-gram {:g}",
    "valid_perplexity": "perplexity there {:.1f}",
}


def adapted_rows(row: Row) -> list[Row]:
    """The adaptations of a model, as rows; none of a model that is not adapted, or counts words."""
    adapted: Any = row.metrics.get(ADAPTED, {})
    return [Row(f"{row.model}{JOINT}{name}", figures) for name, figures in adapted.items()]


def with_adapted(rows: Sequence[Row]) -> list[Row]:
    """All rows, each with its adaptations below it."""
    return [found for row in rows for found in (row, *adapted_rows(row))]


def chosen_in_words(rows: Sequence[Row]) -> list[str]:
    """A line for each adaptation, such as `lstm + cache: window 500, theta 0.5, cache 0.15`."""
    return [
        f"{one.model}: {', '.join(told.format(one.metrics[key]) for key, told in CHOSEN.items() if key in one.metrics)}"
        for row in rows
        for one in adapted_rows(row)
    ]
