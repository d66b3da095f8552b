import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.runtime.errors import InputError
from tests.evaluation.conftest import FIGURES, report_on


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


def test_verdicts_come_from_paired_tests_over_documents_not_from_perplexities(make_run) -> None:
    folder = make_run({"lstm": 4.19})  # a hair below the 5-gram's 4.2, on every sentence
    assert "- lstm (perplexity 64.4) beats the trigram (79.5) and the 5-gram (65.1)." in report_on(folder, ["lstm"])
    path = folder / "evaluation" / "lstm" / "sentences.parquet"
    table = pq.read_table(path)
    # The same in sum, of which one document has more than all: whether there would be more of these is open.
    nats = table["nats"].to_numpy().copy()
    nats[:5] -= 5
    nats[5:] += 25 / 55
    pq.write_table(table.set_column(table.column_names.index("nats"), "nats", [nats]), path)
    text = report_on(folder, ["lstm"])
    assert "beats the trigram (79.5), and cannot be told apart from the 5-gram (65.1): a network that does not" in text
    assert "By paired tests on these sentences, 95% interval over 12 documents (effective number 12.0):" in text
    pq.write_table(table.set_column(table.column_names.index("document"), "document", [np.arange(60)]), path)
    with pytest.raises(InputError, match=r"lstm/sentences\.parquet holds other sentences than .*trigram"):
        report_on(folder, ["lstm"])


def test_the_report_says_which_network_does_not_beat_counting(make_run) -> None:
    text = report_on(make_run({"good": 3.5, "poor": 5.0}), ["good", "poor"])
    good, poor = (line for line in text.splitlines() if line.startswith("- "))
    assert "beats the trigram" in good
    assert "not worth training" not in good
    assert "is worse than the trigram" in poor
    assert "not worth training" in poor


def test_the_report_says_how_much_of_the_gradient_is_left_from_its_numbers(make_run) -> None:
    folder = make_run({"rnn": 4.0, "gru": 4.0})
    (folder / "evaluation" / "rnn" / "gradient_flow.csv").write_text("lag,gradient_norm\n0,0.5\n1,0.4\n2,0.15\n")
    told = "Relative to the word itself the gradient 2 words back is 0.3 in rnn, 0.02 in gru."
    assert told in report_on(folder, ["gru", "rnn"])


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
             "evaluation/rnn/sentences.parquet", "evaluation/baselines/sentences/trigram.parquet",
             "evaluation/baselines/bands.csv", "evaluation/rnn/metrics.json", "models/rnn/history.csv"],
)  # fmt: skip
def test_a_missing_file_is_one_clear_line(make_run, gone: str) -> None:
    folder = make_run({"rnn": 4.0})
    (folder / gone).unlink()
    with pytest.raises(InputError, match=re.escape(gone)):
        report_on(folder, ["rnn"])
