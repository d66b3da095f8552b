import io
import os
import re
from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.terminal import show_table, show_text


def test_a_log_gets_every_cell_whole_and_no_markup_of_rich(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 500 + "end"
    show_table(["name", "[bold]text"], [["a", long], ["[red]b", "1"]], title="Models [/x]")
    title, _, header, _, first, second, _ = capsys.readouterr().out.splitlines()
    assert title.strip() == "Models [/x]"
    assert "[bold]text" in header
    assert long in first
    assert "[red]b" in second


def test_a_narrow_terminal_wraps_and_leaves_nothing_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    show_table(["text"], [["0123456789" * 5]])
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 20
    assert "".join(character for line in lines for character in line if character.isdecimal()) == "0123456789" * 5


WORDS = st.text("abc-,(%", min_size=1, max_size=9)
CELLS = st.lists(WORDS, max_size=6).map(" ".join)


@given(header=st.lists(CELLS, min_size=1, max_size=9), columns=st.integers(12, 100), data=st.data())
def test_no_word_is_broken_that_fits_a_line(header: list[str], columns: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(*[CELLS] * len(header)), max_size=5))
    printed = io.StringIO()
    with patch("sys.stdout", printed), patch.dict(os.environ, COLUMNS=str(columns)):
        printed.isatty = lambda: True
        show_table(header, rows)
        show_text(*header)
    shown = printed.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    # Each word is there whole, as often as it stands in a cell.
    seen = Counter(re.split(r"[\s│┃]+", shown))
    wanted = Counter(word for row in rows for cell in row for word in cell.split())
    assert {word: seen[word] for word in wanted if seen[word] < wanted[word]} == {}


def test_where_words_do_not_fit_side_by_side_a_row_is_a_paragraph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    show_table(["what differs", "A", ""], [["data/encoded/train", "0123456789abcdef", "none of it, as far as I know"]])
    assert capsys.readouterr().out.splitlines() == [
        "data/encoded/train",
        "  A: 0123456789abcdef",
        "  none of it, as far as I know",
    ]
