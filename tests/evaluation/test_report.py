import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation import figures, results
from pipeline.evaluation.matrix import Matrix
from pipeline.evaluation.report import write_report
from pipeline.evaluation.scores import write_metrics
from pipeline.runtime.errors import InputError
from pipeline.runtime.remarks import Remarks
from tests.evaluation.conftest import FIGURES, report_on


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in place of figures, which take longer than the text that most tests are about."""

    def draw(path: Path, *_: object) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    for name in ("learning_curves", "gradient_flow", "perplexity_by_band"):
        monkeypatch.setattr(figures, name, draw)


@pytest.mark.parametrize("names", [["lstm"], ["rnn", "lstm", "gru"], [f"cell-{number}" for number in range(9)]])
def test_any_number_of_cells_makes_a_whole_report(make_run, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # its figures are drawn
    folder = make_run(dict.fromkeys(names, 4.0))
    text = report_on(folder, names)
    assert sorted(path.name for path in (folder / "report").iterdir()) == sorted(
        [*FIGURES, "bands.csv", "pairs.csv", "report.md"]
    )
    assert all((folder / "report" / name).read_bytes().startswith(b"\x89PNG") for name in FIGURES)
    assert re.findall(r"\]\((.*?\.png)\)", text) == ["learning_curves.png", "perplexity_by_band.png", FIGURES[0]]
    assert [line for line in text.splitlines() if line.startswith("| ") and "best on validation" in line] != []
    for name in names:
        assert f"\n- {name} (perplexity" in text
        assert f"the {name} wrote \\*this\\*." in text
    assert text.count("is the only network trained") == (len(names) == 1)


def test_what_is_adapted_has_a_row_of_its_own_and_says_what_was_chosen(make_run) -> None:
    folder = make_run({"lstm": 4.0, "gru": 4.1})
    path = folder / "evaluation" / "lstm" / "metrics.json"
    metrics = results.read_metrics(path)
    plain = report_on(folder, ["lstm", "gru"])
    name, seeds = "dynamic + temperature + cache + interpolation", {"seeds": 2, "perplexity_seed_1": 40.0}
    figures = {"perplexity": 40.2, "perplexity_low": 36.1, "dynamic_rate": 0.4, "softmax_temperature": 1.1}
    figures |= {"cache_window": 500, "cache_theta": 0.3, "cache_weight": 0.15, "interpolation_weight": 0.1}
    seeds |= {"perplexity_seed_2": 41.0, "seed_perplexity_mean": 40.5, "seed_perplexity_sd": 0.7}
    write_metrics(path, metrics | {"adapted": {name: metrics | figures | seeds | {"valid_perplexity": 43.21}}})
    text = report_on(folder, ["lstm", "gru"])
    lines = text.splitlines()
    own = next(number for number, line in enumerate(lines) if line.startswith(f"| lstm + {name} | 40.2 | 36.1 to "))
    assert lines[own - 1].startswith("| lstm |")
    assert lines[own + 1].startswith("| gru (best on validation) |")
    told = "rate 0.4, temperature 1.1, window 500, theta 0.3, cache 0.15, 5-gram 0.1, perplexity there 43.2"
    assert f"- lstm + {name}: {told}" in lines
    assert any(line.startswith(f"| lstm + {name} | 2 | 40.50 | 0.70 |") for line in lines)
    added = {line for line in lines if line not in plain.splitlines() and "adapted" not in line}
    assert all(name in line or line.startswith("| ---") or "sd over seeds" in line for line in added)


def test_verdicts_come_from_paired_tests_over_documents_not_from_perplexities(make_run) -> None:
    folder = make_run({"lstm": 4.19})  # a hair below the 5-gram's 4.2, on every sentence
    text = report_on(folder, ["lstm"])
    assert "\n- lstm (perplexity 64.4) beats 5-gram, trigram and unigram.\n" in text
    assert "\n| 1 lstm |  | **-1.0%** | **-18.9%** | **-83.6%** |\n" in text
    assert "not worth" not in text
    path = folder / "evaluation" / "lstm" / "sentences.parquet"
    table = pq.read_table(path)
    # The same in sum, of which one document has more than all: whether there would be more of these is open.
    nats = table["nats"].to_numpy().copy()
    nats[:5] -= 5
    nats[5:] += 25 / 55
    pq.write_table(table.set_column(table.column_names.index("nats"), "nats", [nats]), path)
    text = report_on(folder, ["lstm"])
    assert "\n- lstm (perplexity 64.4) beats trigram and unigram; it cannot be told apart from 5-gram.\n" in text
    assert "\n| 1 lstm |  | -1.0% | **-18.9%** | **-83.6%** |\n" in text
    assert "Not shown to beat every model that counts words: lstm. A network that does not is not worth its" in text
    assert (
        "by a paired test over 12 documents (effective number 12.0), corrected for their number, 6 (Holm 1979)" in text
    )
    pq.write_table(table.set_column(table.column_names.index("document"), "document", [np.arange(60)]), path)
    with pytest.raises(InputError, match=r"lstm/sentences\.parquet holds other sentences than .*unigram"):
        report_on(folder, ["lstm"])


def test_perplexity_over_what_shares_no_8_gram_stands_beside_the_other_or_is_absent_in_words(make_run) -> None:
    folder = make_run({"lstm": 4.0})
    text = report_on(folder, ["lstm"])
    assert "54 of these sentences, 540 tokens, share no 8-gram with the training split" in text
    metrics = results.read_metrics(folder / "evaluation" / "lstm" / "metrics.json")
    header = next(line for line in text.splitlines() if "| test perplexity" in line).split(" | ")
    cells = next(line for line in text.splitlines() if line.startswith("| lstm")).split(" | ")
    assert cells[header.index("unseen 8-grams only")] == f"{metrics['perplexity_unseen']:.1f}"
    assert metrics["perplexity_unseen"] != metrics["perplexity"]
    for left, said in (
        ({"sentences_unseen", "tokens_unseen"}, "Every test sentence shares an 8-gram with the training split"),
        (set(), "was not looked at: `dvc repro` does."),  # by an earlier version
    ):
        kept = {key: value for key, value in metrics.items() if "unseen" not in key or key in left}
        write_metrics(folder / "evaluation" / "lstm" / "metrics.json", kept)
        text = report_on(folder, ["lstm"])
        assert said in text
        assert next(line for line in text.splitlines() if line.startswith("| lstm")).count("| - |") == 1


def test_too_few_documents_give_a_sentence_and_no_matrix(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # figures without intervals can be drawn, too
    folder = make_run({"lstm": 4.0})
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.set_column(table.column_names.index("document"), "document", [np.arange(60) % 3]), path)
    text = report_on(folder, ["lstm"])
    assert "Whether any of these models is better than another cannot be told: no interval, as 3 documents" in text
    assert "beats" not in text
    assert "perplexity against that of" not in text


def test_without_documents_the_matrix_says_that_it_draws_sentences(make_run) -> None:
    folder = make_run({"lstm": 4.0})
    told = "intervals and tests draw its sentences one by one. Where sentences hang together"
    assert told not in report_on(folder, ["lstm"])
    for path in folder.rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns("document"), path)
    text = report_on(folder, ["lstm"])
    assert "over sentences, as there are no documents (effective number 60.0), corr" in text
    assert told in text


def test_scores_whose_bands_are_not_those_of_the_sentences_are_refused(make_run) -> None:
    folder = make_run({"rnn": 4.0})
    path = folder / "evaluation" / "rnn" / "sentences.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("tokens 1-10")
    for column in ([np.zeros(60, np.int64)], [table["tokens 1-10"].to_numpy() + 0.0]):
        pq.write_table(table.set_column(place, "tokens 1-10", column), path)
        with pytest.raises(InputError, match=r"rnn/sentences\.parquet holds no scores of sentences"):
            report_on(folder, ["rnn"])
    pq.write_table(table.drop_columns("nats 1-10"), path)
    with pytest.raises(InputError, match=r"rnn/sentences\.parquet holds no scores of sentences"):
        report_on(folder, ["rnn"])


def test_the_report_says_what_counts_as_one_document_where_that_is_more_than_one(make_run) -> None:
    folder = make_run({"rnn": 4.0})
    arguments = (folder / "evaluation", folder / "models", ["rnn"], folder / "report", 100, 1)
    assert "Groups" not in report_on(folder, ["rnn"])
    write_report(*arguments, together="Groups: texts of one folder count as one document here.")
    text = (folder / "report" / "report.md").read_text()
    assert "\n\nGroups: texts of one folder count as one document here.\n\n" in text


def test_the_report_repeats_what_stages_said(make_run) -> None:
    folder = make_run({"rnn": 4.0})
    arguments = (folder / "evaluation", folder / "models", ["rnn"], folder / "report", 100, 1)
    assert "## The corpus" not in report_on(folder, ["rnn"])
    said = Remarks({"rows": {"documents": 1999, "blank": 1}}, ["a<b>.txt: HTML, whose markup will be learned as text"])
    write_report(*arguments, remarks={"download": said})
    text = (folder / "report" / "report.md").read_text()
    first, _, rest = text.partition("\n## ")
    assert "\n\n**Warning** (download): `a<b>.txt: HTML, whose markup will be learned as text`\n\n" in first
    assert "## The corpus\n\nWhat became of all that was read:\n\n- download: rows: 2,000 = 1,999 doc" in rest


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
    "gone", ["evaluation/rnn/gradient_flow.csv", "evaluation/rnn/samples.txt",
             "evaluation/rnn/sentences.parquet", "evaluation/baselines/sentences/trigram.parquet",
             "evaluation/rnn/metrics.json", "models/rnn/history.csv"],
)  # fmt: skip
def test_a_missing_file_is_one_clear_line(make_run, gone: str) -> None:
    folder = make_run({"rnn": 4.0})
    (folder / gone).unlink()
    with pytest.raises(InputError, match=re.escape(gone)):
        report_on(folder, ["rnn"])


def test_the_first_sentence_says_where_counting_is_better(make_run) -> None:
    # The last one is the best on validation.
    first = report_on(make_run({"rnn": 4.0, "lstm": 4.3}), ["rnn", "lstm"]).split("\n\n")[1]
    said = "**Counting words is better on this corpus** than the best network: the 5-gram has a test perplexity of "
    assert first == said + "65.1, lstm of 71.9."
    assert "Counting" not in report_on(make_run({"rnn": 4.3, "lstm": 4.1}), ["rnn", "lstm"])


def test_where_no_test_says_so_counting_only_did_better(make_run) -> None:
    folder = make_run({"lstm": 4.3})
    rows = [*results.baseline_rows(folder / "evaluation"),
            *results.network_rows(folder / "evaluation", folder / "models", ["lstm"])]  # fmt: skip
    said = results.counting_is_better(rows, Matrix({}, (), None, 1.0))
    assert said is not None
    assert said.startswith("**Counting words did better on this corpus**")
    assert said.endswith("; by a paired test they cannot be told apart.")


def test_what_more_epochs_may_give_stands_below_the_table(make_run) -> None:
    text = report_on(make_run({"lstm": 4.0}), ["lstm"])
    assert "\n- lstm: training took only 20 steps and the last of 2 epochs still lowered the validation perpl" in text
