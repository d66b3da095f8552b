"""The report as one page that MLflow shows whole: Markdown as HTML, with the figures inside."""

import base64
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
body { font: 13px/1.5 system-ui, sans-serif; color: #1c1c1c; background: white; max-width: 62em; margin: 1em auto;
  padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top; }
img { max-width: 100%; }
"""


def report_page(report: Path) -> str:
    """HTML of a Markdown file, which needs nothing else: no file beside it, nothing from the web, no script.

    Args:
        report: the Markdown; its images are PNG files beside it.
    """
    # What models wrote stands in it: HTML in the Markdown stays text.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(report.read_text(encoding="utf-8"))
    for image in (child for token in tokens for child in token.children or () if child.type == "image"):
        image.attrs["src"] = _data_uri(report.parent / str(image.attrs["src"]))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{report.stem}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _data_uri(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"
