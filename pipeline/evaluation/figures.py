"""The report's figures, drawn without a display and byte for byte the same on every run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from pipeline.evaluation.scores import Band
from pipeline.runtime.files import atomic_path
from pipeline.training.history import EpochRecord, best_epoch

# Okabe and Ito (2008), told apart by colour-blind readers; markers repeat what colours say, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"  # of the baselines


def learning_curves(path: Path, histories: Mapping[str, Sequence[EpochRecord]]) -> None:
    """Validation perplexity after each epoch, all networks in one figure; a ring marks the epoch kept."""
    labels = ("epoch (passes over the training split)", "validation perplexity")
    with _figure(path, 8, 4.2, labels, "ring: epoch kept") as axes:
        for index, (name, history) in enumerate(histories.items()):
            style, kept = _style(index), best_epoch(history)
            epochs, values = zip(*((record.epoch, record.valid_perplexity) for record in history), strict=True)
            axes.plot(epochs, values, label=name, **style)
            axes.plot(kept.epoch, kept.valid_perplexity, "o", markersize=14, fillstyle="none", color=style["color"])
        _plain_numbers(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def perplexity_by_band(path: Path, bands: Mapping[str, Sequence[Band]], baselines: Sequence[str]) -> None:
    """Test perplexity by the training frequency of the word to predict; the models named in `baselines` in grey."""
    tokens = {band.band: band.tokens for rows in bands.values() for band in rows}
    names, total = list(tokens), sum(tokens.values())
    networks = [model for model in bands if model not in baselines]
    labels = ("training frequency rank of the word to predict, and its share of the test tokens", "test perplexity")
    with _figure(path, 10.5, 4.8, labels) as axes:
        for index, (model, rows) in enumerate(bands.items()):
            # Side by side within a band, so that equal values do not hide each other.
            shift = 0.6 * ((index + 0.5) / len(bands) - 0.5)
            if model in networks:
                style = {**_style(networks.index(model)), "markersize": min(8, 60 / len(bands))}
            else:
                style = {"color": GREY, "marker": ("_", "1", "x")[index % 3], "markersize": 9, "markeredgewidth": 2}
            places = [names.index(row.band) + shift for row in rows]
            axes.plot(places, [row.perplexity for row in rows], label=model, **{**style, "linestyle": "none"})
        _plain_numbers(axes)
        axes.set_xticks(range(len(names)), [f"{name}\n{tokens[name] / total:.0%}" for name in names])
        for edge in range(1, len(names)):
            axes.axvline(edge - 0.5, color="#cccccc", linewidth=0.8)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.grid(visible=False, axis="x")


def gradient_flow(path: Path, norms: Mapping[str, Sequence[float]]) -> None:
    """The norm of the loss's gradient k steps back, relative to that at k = 0; `norms[name][k]`."""
    labels = ("k (words back)", "gradient norm k words back / at the word itself")
    with _figure(path, 8, 4.2, labels) as axes:
        for index, (name, values) in enumerate(norms.items()):
            axes.plot([value / values[0] for value in values], label=name, markevery=5, **_style(index))


@contextmanager
def _figure(
    path: Path, width: float, height: float, labels: tuple[str, str], legend: str | None = None
) -> Iterator[Axes]:
    """Axes with a logarithmic y to draw on, written to `path` as PNG when the block ends; sizes are in inches."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # so that the user's matplotlibrc changes nothing
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_yscale("log")
        axes.set(xlabel=labels[0], ylabel=labels[1])
        yield axes
        # Beside the axes, where it hides nothing however many models there are.
        axes.legend(title=legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def _style(index: int) -> dict:
    """There are 6 colours and 7 markers, so a pair comes again only after 42 models."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "linewidth": 1.8}


def _plain_numbers(axes: Axes) -> None:
    """Perplexities as 60 and 1,000, not as powers of ten; also between them where the axis is short."""
    axes.yaxis.set_major_formatter("{x:,g}")
    low, high = axes.get_ylim()
    if high / low < 30:
        axes.yaxis.set_minor_formatter("{x:,g}")
        axes.grid(color="#e5e5e5", linewidth=0.8, which="minor", axis="y")
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
