import re

from pipeline.runtime.markdown import markdown_table, plain


def test_a_table_has_a_header_a_rule_and_a_line_per_row() -> None:
    assert markdown_table([["a", "b", "c"], ["1", "2", "3"]]) == "| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |"
    assert markdown_table([["a", "b", "c"]], right=True) == "| a | b | c |\n| --- | ---: | ---: |"
    assert markdown_table([["a"]], right=True) == "| a |\n| --- |"


def test_no_cell_ends_early_and_markdown_in_it_acts_unless_it_is_plain() -> None:
    *_, line = markdown_table([["x", "y"], ["**no** a|b", plain("**no** a|b")]]).splitlines()
    assert line == r"| **no** a\|b | \*\*no\*\* a\|b |"


def test_plain_text_reads_back_once_its_escapes_are_taken_away() -> None:
    text = r"\ ` * _ [ ] < > ~ & $ | \| a_b" + "`<b>`"
    *_, line = markdown_table([["x"], [plain(text)]]).splitlines()
    assert re.sub(r"\\(.)", r"\1", line) == f"| {text} |"
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]<>~&$]", line)
