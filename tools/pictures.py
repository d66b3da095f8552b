"""The figures of the tutorial, from the numbers in docs/tutorial/measured.json: the same bytes twice.

Labels are symbols and words of the field, which both languages share; the text around a figure explains it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from pipeline.evaluation.figures import COLOURS, _canvas, _style

LABELS = {"rnn": "plain RNN", "lstm": "LSTM", "gru": "GRU"}
GATE_LABELS = {"i": "input i", "f": "forget f", "o": "output o", "z": "update z", "r": "reset r"}


def draw(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Write every figure into `folder`, from the section `numbers` of measured.json."""
    unfolded(folder / "unfolded.png", numbers["example"]["rnn"])
    start(folder / "start.png", numbers["start"])
    gradients(folder / "gradients.png", numbers["flow"])
    gates(folder / "gates.png", numbers["example"]["lstm"]["x"], numbers["gates"])


def unfolded(path: Path, example: Mapping[str, Any]) -> None:
    """The plain RNN unfolded along the example: words in, the state's first units, and P of each next word."""
    states, steps = example["states"], len(example["x"])
    with _canvas(path, 11, 4.4) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.75, steps - 0.4), ylim=(-1.5, 3.6))
        axes.axis("off")
        for t in range(steps):
            for unit, values in enumerate(states):
                value, bottom = values[t], 1.6 - 1.6 * (unit + 1) / len(states)
                colour = COLOURS[1] if value > 0 else COLOURS[0]
                axes.add_patch(_box(t - 0.17, bottom, 0.34, 1.6 / len(states), colour, abs(value)))
            axes.text(t, -1.3, _short(example["x"][t]), ha="center", fontsize=9, weight="bold")
            axes.text(t, 3.2, _short(example["y"][t]), ha="center", fontsize=9, weight="bold")
            axes.text(t, 2.9, f"P = {example['probability'][t]:.1%}", ha="center", fontsize=9, color="#444444")
            _arrow(axes, (t, -0.95), (t, -0.05), "U" if t == 0 else "")
            _arrow(axes, (t, 1.65), (t, 2.75), "V" if t == 0 else "")
            if t + 1 < steps:
                _arrow(axes, (t + 0.2, 0.8), (t + 0.8, 0.8), "W", above=True)
        for height, label in ((-1.3, "xₜ"), (0.75, "sₜ"), (3.2, "yₜ")):
            axes.text(-0.7, height, label, fontsize=13)


def start(path: Path, starts: Mapping[str, Any]) -> None:
    """States at the first sentences, and the loss of the first steps, by how wide the weights start."""
    labels = {"inverse": "within 1/√n", "root": "within √n"}
    with _canvas(path, 9, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        for index, (name, label) in enumerate(labels.items()):
            shares = starts[name]["states"]
            edges = [-1 + 2 * place / len(shares) for place in range(len(shares) + 1)]
            left.stairs(shares, edges, label=label, color=COLOURS[index], fill=True, alpha=0.75)
            right.plot(starts[name]["losses"], label=label, color=COLOURS[index], linewidth=1.8)
        right.axhline(starts["uniform"], color="black", linewidth=1, linestyle=":")
        right.text(len(starts["root"]["losses"]), starts["uniform"] * 1.1, "ln C", ha="right", fontsize=9)
        right.set_yscale("log")
        right.yaxis.set_major_formatter("{x:g}")
        left.set(xlabel="value of a unit", ylabel="share of all values", xlim=(-1, 1))
        right.set(xlabel="step of training", ylabel="loss, nats a word")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        for axes in (left, right):
            _plain(axes)


def gradients(path: Path, flow: Mapping[str, Any]) -> None:
    """The gradient k words back relative to the word itself, before training (dashed) and after."""
    with _canvas(path, 9, 3.6) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, when, title in zip(panels, ("untrained", "trained"), ("at the start", "after training"), strict=True):
            for index, name in enumerate(LABELS):
                axes.plot(flow[name][when], label=LABELS[name], markevery=5, markersize=4, **_style(index))
            axes.set_yscale("log")
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("k, words back")
            _plain(axes)
        panels[0].set_ylabel("gradient, relative to k = 0")
        panels[0].legend(frameon=False, loc="lower left")


def gates(path: Path, words: Sequence[str], found: Mapping[str, Any]) -> None:
    """The mean over units of each gate, word by word of the example."""
    with _canvas(path, 9, 2.9) as figure:
        panels = figure.subplots(1, 2)
        for axes, name in zip(panels, ("lstm", "gru"), strict=True):
            rows = found[name]["example"]
            shown = [gate for gate in GATE_LABELS if gate in rows]
            axes.imshow([rows[gate] for gate in shown], cmap="cividis", vmin=0, vmax=1, aspect="auto")
            for row, gate in enumerate(shown):
                for t, value in enumerate(rows[gate]):
                    colour = "black" if value > 0.55 else "white"
                    axes.text(t, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=8, color=colour)
            axes.set_xticks(range(len(words)), [_short(word) for word in words], rotation=35, ha="right", fontsize=8)
            axes.set_yticks(range(len(shown)), [GATE_LABELS[gate] for gate in shown], fontsize=8)
            axes.set_title(LABELS[name], fontsize=10)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)


def _box(x: float, y: float, width: float, height: float, colour: str, strength: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=colour, alpha=strength, edgecolor="none")


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], label: str, above: bool = False) -> None:
    axes.annotate("", end, begin, arrowprops={"arrowstyle": "-|>", "color": "#555555"})
    x, y = (begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2
    shift = (0, 0.1) if above else (0.08, 0)
    axes.text(x + shift[0], y + shift[1], label, fontsize=12, style="italic", ha="center" if above else "left")


def _short(word: str) -> str:
    return word.replace("SENTENCE_", "")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
