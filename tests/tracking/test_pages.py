"""The report as one HTML page."""

import base64
from pathlib import Path

from pipeline.tracking.pages import report_page

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
