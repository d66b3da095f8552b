"""The report as one HTML page."""

import base64
from pathlib import Path

from pipeline.params import load_params
from pipeline.runtime.remarks import Remarks
from pipeline.tracking.pages import report_page, training_note
from pipeline.training.history import EpochRecord
from tests.conftest import PROJECT

MARKDOWN = """# Models compared

| model | perplexity |
| --- | ---: |
| rnn | 80.8 |
| <script>alert(1)</script> | a \\| b |

![Validation perplexity](curves.png)
"""


def test_tables_and_figures_are_inside_and_what_models_wrote_stays_text(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text(MARKDOWN)
    (tmp_path / "curves.png").write_bytes(b"\x89PNG")
    page = report_page(tmp_path / "report.md")
    assert "<h1>Models compared</h1>" in page
    assert '<td style="text-align:right">80.8</td>' in page
    assert "a | b" in page
    picture = base64.b64encode(b"\x89PNG").decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="Validation perplexity" />' in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_runs_page_repeats_what_stages_said() -> None:
    cell = load_params(PROJECT / "params.yaml").cell("lstm")
    history = [EpochRecord(1, 10, 0.01, 5.0, 4.0, 54.6)]
    said = {"download": Remarks({"rows": {"documents": 9, "blank": 1}}, ["a<b>.txt: HTML"]), "tokenize": Remarks()}
    note = training_note("abc", cell, 1000, history, {}, said)
    assert "\n\n**Warning** (download): `a<b>.txt: HTML`\n\nCorpus: rows: 10 = 9 documents + 1 blank.\n\n" in note
    assert "Corpus" not in training_note("abc", cell, 1000, history, {}, {})
