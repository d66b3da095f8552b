import struct
from pathlib import Path

import matplotlib

from pipeline.evaluation import figures
from tests.evaluation.conftest import FIGURES, report_on


def png_chunks(path: Path) -> list[bytes]:
    """The types of a PNG file's chunks."""
    data, position, types = path.read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        types.append(data[position + 4 : position + 8])
        position += length + 12
    return types


def test_the_figures_show_every_model_by_its_name(make_run, monkeypatch) -> None:
    drawn = {}
    for name in ("learning_curves", "perplexity_by_band", "gradient_flow"):
        monkeypatch.setattr(figures, name, lambda path, *data, name=name: drawn.update({name: data}))
    report_on(make_run({"rnn": 4.0, "gru": 3.9}), ["rnn", "gru"])
    bands, *shown = drawn["perplexity_by_band"]
    assert shown == ["5-gram", ["rnn", "gru"], ["trigram"]]
    assert list(bands)[:3] == ["all words", "1-10", "11-100"]
    for rows in bands.values():
        assert [row.model for row in rows] == ["unigram", "trigram", "5-gram", "rnn", "gru"]
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
