import re

import pytest

from pipeline.runtime.terminal import show_table


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
