import re
import struct
from pathlib import Path

import matplotlib
import pytest

from pipeline.evaluation import figures
from pipeline.evaluation.report import write_report
from pipeline.runtime.errors import InputError

FIGURES = ["gradient_flow.png", "learning_curves.png", "perplexity_by_band.png"]


def report_on(folder: Path, names: list[str], report: str = "report") -> str:
    write_report(folder / "evaluation", folder / "models", names, folder / report)
    return (folder / report / "report.md").read_text(encoding="utf-8")


def png_chunks(path: Path) -> list[bytes]:
    """The types of a PNG file's chunks."""
    data, position, types = path.read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        types.append(data[position + 4 : position + 8])
        position += length + 12
    return types


@pytest.mark.parametrize("names", [["lstm"], ["rnn", "lstm", "gru"], [f"cell-{number}" for number in range(9)]])
def test_any_number_of_cells_makes_a_whole_report(make_run, names: list[str]) -> None:
    folder = make_run(dict.fromkeys(names, 4.0))
    text = report_on(folder, names)
    assert sorted(path.name for path in (folder / "report").iterdir()) == [*FIGURES, "report.md"]
    assert re.findall(r"\]\((.*?\.png)\)", text) == ["learning_curves.png", "perplexity_by_band.png", FIGURES[0]]
    assert [line for line in text.splitlines() if line.startswith("| ") and "best on validation" in line] != []
    for name in names:
        assert f"\n- {name} (perplexity" in text
        assert f"the {name} wrote \\*this\\*." in text
    assert text.count("is the only network trained") == (len(names) == 1)


def test_the_report_says_which_network_does_not_beat_counting(make_run) -> None:
    text = report_on(make_run({"good": 3.5, "poor": 5.0}), ["good", "poor"])
    good, poor = (line for line in text.splitlines() if line.startswith("- "))
    assert "beats the trigram" in good
    assert "not worth training" not in good
    assert "does not beat the trigram" in poor
    assert "not worth training" in poor


def test_the_figures_show_every_model_by_its_name(make_run, monkeypatch) -> None:
    drawn = {}
    for name in ("learning_curves", "perplexity_by_band", "gradient_flow"):
        monkeypatch.setattr(figures, name, lambda path, *data, name=name: drawn.update({name: data}))
    report_on(make_run({"rnn": 4.0, "gru": 3.9}), ["rnn", "gru"])
    bands, baselines = drawn["perplexity_by_band"]
    assert list(bands) == ["unigram", "trigram", "5-gram", "rnn", "gru"]
    assert baselines == ["unigram", "trigram", "5-gram"]
    assert [band.band for band in bands["gru"]][:2] == ["1-10", "11-100"]
    assert drawn["gradient_flow"] == ({"rnn": [0.5, 0.1, 0.01], "gru": [0.5, 0.1, 0.01]},)
    assert [record.valid_perplexity for record in drawn["learning_curves"][0]["gru"]] == [140.0, 89.5]


def test_two_reports_are_byte_for_byte_alike_whatever_matplotlib_is_set_to(make_run, monkeypatch) -> None:
    folder = make_run({"rnn": 4.0, "gru": 3.9})
    report_on(folder, ["rnn", "gru"], "first")
    for key, value in {"axes.facecolor": "black", "font.size": 20, "savefig.dpi": 30}.items():
        monkeypatch.setitem(matplotlib.rcParams, key, value)
    report_on(folder, ["rnn", "gru"], "second")
    for name in [*FIGURES, "report.md"]:
        assert (folder / "first" / name).read_bytes() == (folder / "second" / name).read_bytes(), name
    assert matplotlib.rcParams["font.size"] == 20


def test_figures_hold_no_time_and_no_name_of_a_program(make_run) -> None:
    folder = make_run({"rnn": 4.0})
    report_on(folder, ["rnn"])
    for name in FIGURES:
        assert set(png_chunks(folder / "report" / name)) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_generated_text_cannot_act_as_markdown(make_run) -> None:
    text = report_on(make_run({"rnn": 4.0, "gru": 4.0}), ["rnn", "gru"])
    line = next(line for line in text.splitlines() if "and" in line and "<b" in line)
    assert line == r"| \<b\>and\</b\> a\|b. | \<b\>and\</b\> a\|b. |"


def test_without_generated_sentences_there_is_no_such_section(make_run) -> None:
    folder = make_run({"rnn": 4.0})
    (folder / "evaluation" / "rnn" / "samples.txt").write_text("")
    assert "wrote" not in report_on(folder, ["rnn"])


@pytest.mark.parametrize(
    "gone", ["evaluation/rnn/bands.csv", "evaluation/rnn/gradient_flow.csv", "evaluation/rnn/samples.txt",
             "evaluation/baselines/bands.csv", "evaluation/rnn/metrics.json", "models/rnn/history.csv"],
)  # fmt: skip
def test_a_missing_file_is_one_clear_line(make_run, gone: str) -> None:
    folder = make_run({"rnn": 4.0})
    (folder / gone).unlink()
    with pytest.raises(InputError, match=re.escape(gone)):
        report_on(folder, ["rnn"])
