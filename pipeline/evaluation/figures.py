"""The report's figures, drawn without a display and byte for byte the same on every run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from pipeline.evaluation.bands import RelativeBand
from pipeline.runtime.files import atomic_path
from pipeline.training.history import EpochRecord, best_epoch

# Okabe and Ito (2008), told apart by colour-blind readers; markers repeat what colours say, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"  # of the baselines
# By how many bits a word surprises, from less than the first limit to more than the last: back and text, from
# ColorBrewer's YlOrBr, one hue that grows darker, or on a dark page lighter.
SURPRISE = {
    "limits": [1, 3, 6, 9, 12],
    "light": [("transparent", "inherit"), ("#fff3b8", "#1c1c1c"), ("#fec44f", "#1c1c1c"), ("#ec7014", "#1c1c1c"),
              ("#993404", "#ffffff"), ("#4d1a02", "#ffffff")],
    "dark": [("transparent", "inherit"), ("#33290f", "#ececec"), ("#6b4708", "#ffffff"), ("#b86f0a", "#0c0c0c"),
             ("#f0a830", "#0c0c0c"), ("#fff0c2", "#0c0c0c")],
}  # fmt: skip
MUCH_WORSE = 60.0  # percent worse than the reference: beyond, one poor model would make all others look equal


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


def perplexity_by_band(
    path: Path,
    bands: Mapping[str, Sequence[RelativeBand]],
    reference: str,
    networks: Sequence[str],
    counting: Sequence[str],
) -> None:
    """Perplexity against that of `reference` by the training frequency of the word to predict: a panel for each band.

    A row for each of `networks` and, in grey, of `counting`. Those beyond `MUCH_WORSE` stand at the edge as arrows.
    """
    ((first, *_), *_) = bands.values()
    shown = [*networks, *counting]
    with _canvas(path, 11, 1.7 + 0.27 * len(shown)) as figure:
        panels = figure.subplots(1, len(bands), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (band, rows) in zip(panels, bands.items(), strict=True):
            by_model = {row.model: row for row in rows}
            words = f"{band.replace('_', chr(10))}\n{rows[0].tokens / first.tokens:.0%}"
            axes.set_title(f"{words}\n{by_model[reference].perplexity:,.1f}", fontsize=8)
            axes.axvline(0, color="black", linewidth=1)
            for place, model in enumerate(shown):
                style = _style(networks.index(model)) if model in networks else {"color": GREY, "marker": "o"}
                _ratio(axes, place, by_model[model], style["color"], style["marker"])
            axes.grid(color="#e5e5e5", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.tick_params(axis="both", length=0, labelsize=8)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda percent, _: f"{percent:+g}" if percent else "0")
        panels[0].set_yticks(range(len(shown)), shown)
        panels[0].set_ylim(len(shown) - 0.5, -0.5)
        figure.suptitle(
            f"word to predict, by its rank in training; its share of the test tokens; perplexity of the {reference}",
            fontsize=9,
        )
        figure.supxlabel(f"percent more than the perplexity of the {reference}: farther left is better", fontsize=9)


def _ratio(axes: Axes, place: int, row: RelativeBand, color: str, marker: str) -> None:
    percent = 100 * (row.ratio - 1)
    axes.plot(min(percent, MUCH_WORSE), place, marker if percent <= MUCH_WORSE else ">", color=color, markersize=5)
    if percent <= MUCH_WORSE and row.ratio_low is not None and row.ratio_high is not None:
        ends = [100 * (row.ratio_low - 1), min(100 * (row.ratio_high - 1), MUCH_WORSE)]
        axes.plot(ends, [place, place], color=color, linewidth=1.8)


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
    with _canvas(path, width, height) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_yscale("log")
        axes.set(xlabel=labels[0], ylabel=labels[1])
        yield axes
        # Beside the axes, where it hides nothing however many models there are.
        axes.legend(title=legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


@contextmanager
def _canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, written to `path` as PNG when the block ends."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # so that the user's matplotlibrc changes nothing
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
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
