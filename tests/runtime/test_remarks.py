"""What a stage says is kept as it was printed, and its sums balance, whatever lies in a folder."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.runtime.remarks import Remarks, read_remarks
from pipeline.text.params import SourceFile
from pipeline.text.sources.text_files import file_documents
from tests.text.sources.text_bytes import csv_bytes, download_params, jsonl_bytes, parquet_bytes, zip_bytes

TEXT = st.one_of(st.sampled_from(["", " ", "\ufeff", "\u2028"]), st.text("ab \u3002\U0001f600", max_size=8))
WRITERS = {
    ".csv": csv_bytes,
    ".jsonl": jsonl_bytes,
    ".parquet": parquet_bytes,
    ".txt": lambda texts: "".join(text + "\n" for text in texts).encode(),
}
OTHERS = st.sampled_from([".json", ".doc", "", ".txt.bz2"])


@given(
    files=st.lists(st.tuples(st.sampled_from([*WRITERS]), st.lists(TEXT, max_size=6)), min_size=1, max_size=4),
    others=st.lists(OTHERS, max_size=3),
    hidden=st.integers(0, 3),
    packed=st.booleans(),
)
def test_every_file_and_row_is_read_or_skipped_for_a_reason(
    files: list[tuple[str, list[str]]],
    others: list[str],
    hidden: int,
    packed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, remarks = tmp_path_factory.mktemp("any") / "corpus", Remarks()
    content = {f"{number}{kind}": WRITERS[kind](texts) for number, (kind, texts) in enumerate(files)}
    content |= {f"other{number}{kind}": b"x" for number, kind in enumerate(others)}
    content |= dict.fromkeys((".hidden.txt", "0.csv.dvc", "README.md")[:hidden], b"x")
    folder.mkdir()
    for name, written in content.items():
        (folder / name).write_bytes(written)
    if packed:
        (folder := folder.with_suffix(".zip")).write_bytes(zip_bytes(content))
    found = list(file_documents(folder, "", SourceFile(url="x"), download_params(), remarks=remarks))
    sums = remarks.sums
    assert sums["files"] == Counter({"read": len(files), "of another kind": len(others), "of tools": hidden})
    for unit, kinds in (("lines", {".txt"}), ("rows", {".csv", ".jsonl", ".parquet"})):
        assert sums[unit].total() == sum(len(texts) for kind, texts in files if kind in kinds)
    assert sums["lines"]["documents"] + sums["rows"]["documents"] == len(found)
    assert len(remarks.warnings) == bool(others)


def test_what_was_said_is_printed_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_remarks() == {}
    remarks = Remarks()
    for name in "abcdefg":
        remarks.warn("odd", name)
    remarks.warn("few words")
    remarks.count("rows", "blank")
    remarks.count("rows", "documents", 1234)
    remarks.end("download")
    printed = capsys.readouterr()
    assert printed.out == "download: rows: 1,235 = 1,234 documents + 1 blank\n"
    assert printed.err == "warning: a: odd\nwarning: few words\n"
    said = read_remarks()["download"]
    assert said.warnings == ["a, b, c, d, e and 2 more: odd", "few words"]
    assert list(said.lines()) == ["rows: 1,235 = 1,234 documents + 1 blank"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"sums": 1, "warnings": []})])
def test_a_damaged_file_is_one_line(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/remarks").mkdir(parents=True)
    (tmp_path / "data/remarks/tokenize.json").write_text(content)
    with pytest.raises(InputError, match=r"data/remarks/tokenize\.json is damaged; delete it and run `dvc repro tok"):
        read_remarks()
