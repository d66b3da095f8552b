import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources import text_files
from pipeline.text.sources.text_files import file_documents, text_id
from tests.conftest import PROJECT

TEXTS = ["One text.", 'Two, "quoted"\nlines.', "Drei Töne \u2028 in einem.", "A NUL \x00, a bell \a."]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(path: Path, txt_documents: str = "line", text_column: str = "body") -> list[str]:
    found = list(file_documents(path, "", SourceFile(url=str(path)), download_params(text_column, txt_documents)))
    assert all(document == Document(text_id(document.text), document.text) for document in found)
    return [document.text for document in found]


def download_params(text_column: str = "body", txt_documents: str = "line", max_bytes: int = 1 << 30) -> DownloadParams:
    values = {"source": "files", "path": "corpus", "packages": ["numpy"], "sources": {}}
    values |= {"text_column": text_column, "txt_documents": txt_documents, "max_bytes": max_bytes}
    return DownloadParams.model_validate(values)


def csv_bytes(texts: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([["id", "body"], *([number, text] for number, text in enumerate(texts))])
    return file.getvalue().encode()


def jsonl_bytes(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "body": text}) + "\n" for text in texts).encode()


def parquet_bytes(texts: list[str] | pa.Array) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(texts))), "body": texts}), file)
    return file.getvalue()


WRITERS = {"csv": csv_bytes, "jsonl": jsonl_bytes, "parquet": parquet_bytes}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_tables(tmp_path: Path, kind: str, packed: bool) -> None:
    content = WRITERS[kind](["", *TEXTS, " \n"])
    path = tmp_path / (f"corpus.{kind}.gz" if packed else f"corpus.{kind}")
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert read(path) == TEXTS


@pytest.mark.parametrize("packed", [False, True])
def test_text_files(tmp_path: Path, packed: bool) -> None:
    content = "\ufeffOne line.\r\nTwo \u2028 lines.\n\n \nThree.\n\n\n\nNo end".encode()
    path = tmp_path / ("corpus.txt.gz" if packed else "corpus.txt")
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert read(path, "line") == ["One line.", "Two \u2028 lines.", "Three.", "No end"]
    assert read(path, "blank-line") == ["One line.\nTwo \u2028 lines.", "Three.", "No end"]


@given(texts=st.lists(ANY_TEXT), kind=st.sampled_from(sorted(WRITERS)))
def test_every_text_comes_back(texts: list[str], kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / f"corpus.{kind}"
    path.write_bytes(WRITERS[kind](texts))
    assert read(path) == [text for text in texts if text.strip()]


def test_the_tutorials_comments_are_read_as_pythons_csv_module_does(shared_data: Path) -> None:
    path = shared_data / "reddit-comments-sample.csv"
    with path.open(encoding="utf-8", newline="") as file:
        expected = [row["body"] for row in csv.DictReader(file)]
    assert read(path) == expected
    assert len(expected) == 212
    assert any("\n" in text for text in expected)


def test_a_long_field(tmp_path: Path) -> None:
    text = "word " * 100_000
    (tmp_path / "corpus.csv").write_bytes(csv_bytes([text]))
    assert read(tmp_path / "corpus.csv") == [text]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y/x.TXT", "c.jsonl", ".hidden/d.txt", "._e.txt", "README.md"):
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jsonl_bytes([name]) if name == "c.jsonl" else name.encode())
    assert read(tmp_path / "corpus") == ["a/y/x.TXT", "a/z.txt", "b.txt", "c.jsonl"]


def test_equal_texts_share_an_id_and_others_do_not() -> None:
    assert text_id("One text.") == text_id("One text.") == "3638f28994bd454c"
    assert text_id("One text.") != text_id("one text.")


def test_a_lone_surrogate_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"body": "a \\ud800 b \\ud83d\\ude00 c"}\n\n{"body": null}\n')
    assert read(tmp_path / "corpus.jsonl") == ["a \ufffd b \U0001f600 c"]


def test_parquet_text_of_other_layouts(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(pa.array(["a", None, "b"]).cast(kind)))
        assert read(tmp_path / "corpus.parquet") == ["a", "b"]


LINES = "first line\n" * 5000  # more than a decoder's block, so that its own count of bytes would mislead


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, r"missing\.txt does not exist"),
        ("corpus.docx", b"text", r"corpus\.docx is of an unknown kind; expected a name that ends in \.txt, \.csv"),
        ("corpus.gz", gzip.compress(b"text", mtime=0), "unknown kind"),
        ("corpus.txt", LINES.encode() + b"ab\xff\n", r"corpus\.txt, line 5001 \(byte 55002\): not UTF-8"),
        ("corpus.txt", b"cut \xe2\x82", r"line 1 \(byte 4\): not UTF-8"),
        ("corpus.txt", "text".encode("utf-16"), r"line 1 \(byte 0\): not UTF-8"),
        ("corpus.csv", b"body\nok\n\xe9\n", r"corpus\.csv, line 3 \(byte 8\): not UTF-8"),
        ("corpus.jsonl", b'{"body": "\xe9"}', r"line 1 \(byte 10\): not UTF-8"),
        ("corpus.txt.gz", gzip.compress(b"\xff", mtime=0), r"corpus\.txt\.gz, line 1 \(byte 0\): not UTF-8"),
        ("corpus.txt.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], r"corpus\.txt\.gz is not a whole gzip file"),
        ("corpus.txt.gz", b"never packed", "not a whole gzip file"),
        ("corpus.parquet.gz", gzip.compress(parquet_bytes(["a"]), mtime=0)[:-9], "not a whole gzip file"),
        ("corpus.csv", b"id,text\n1,a\n", "no column 'body' .*; it has: 'id', 'text'"),
        ("corpus.csv", b"id,body\n1,a\n2\n", "line 3: the row has 1 fields, too few for column 'body'"),
        ("corpus.csv", b"body\na\rb\x00\n", None),
        ("corpus.jsonl", b'{"body": "a"}\n{"text": "b"}\n', "line 2: no column 'body' .*; it has: 'text'"),
        ("corpus.jsonl", b'{"body": "a"}\n{"body": \n', "line 2: not valid JSON"),
        ("corpus.jsonl", b"[" * 100_000, "line 1: not valid JSON"),
        ("corpus.jsonl", b"9" * 5000, "line 1: not valid JSON"),
        ("corpus.jsonl", b'["a"]\n', "line 1: expected a JSON object with 'body', got a JSON list"),
        ("corpus.jsonl", b'{"body": 7}\n', "line 1: 'body' holds 7, not a text"),
        ("corpus.parquet", parquet_bytes(["a"])[:-9], r"corpus\.parquet is not valid Parquet"),
        ("corpus.parquet", b"", "not valid Parquet"),
        ("corpus.parquet", parquet_bytes(pa.array([1])), "column 'body' holds int64, not text"),
        ("corpus.parquet", parquet_bytes(pa.array([b"a"])), "column 'body' holds binary, not text"),
    ],
)
def test_bad_input(tmp_path: Path, name: str, content: bytes | None, message: str | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    if message is None:
        assert read(path) == ["a", "b\x00"]
        return
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_missing_parquet_column(tmp_path: Path) -> None:
    (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(["a"]))
    with pytest.raises(InputError, match=r"no column 'text' .*; it has: 'id', 'body'"):
        read(tmp_path / "corpus.parquet", text_column="text")


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    damaged = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xff"]).buffers()[1:]])
    (tmp_path / "corpus.parquet").write_bytes(parquet_bytes(damaged))
    with pytest.raises(InputError, match="column 'body' is not UTF-8"):
        read(tmp_path / "corpus.parquet")


def test_a_folder_without_text_files(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(InputError, match=r"empty corpus: no file below .* ends in \.txt, \.csv"):
        read(tmp_path)


def zip_bytes(members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar_bytes(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


PACKERS = {"corpus.zip": zip_bytes, "corpus.tar.gz": tar_bytes, "corpus.tgz": tar_bytes}
MEMBERS = {
    "b/two.csv": csv_bytes(["Of a table."]),
    "a.txt.gz": gzip.compress(b"Packed twice.\n", mtime=0),
    "b/one.txt": b"First.\nSecond.\n",
    "b/.hidden.txt": b"no",
    "../../escape.txt": b"Only read, never unpacked.",
    "README": b"no",
    "table.parquet": parquet_bytes(["Of Parquet."]),
}


def read_members(path: Path, members: str = "", **source: object) -> list[Document]:
    return list(file_documents(path, members, SourceFile.model_validate({"url": "x", **source}), download_params()))


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_is_read_like_a_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / "inside" / "deep" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(PACKERS[name](MEMBERS))
    found = [document.text for document in read_members(path)]
    assert found == ["Packed twice.", "First.", "Second.", "Of a table.", "Of Parquet."]
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize(("name", "protocol"), [("corpus.zip", "zip"), ("corpus.tar.gz", "tar")])
def test_members_can_be_named(name: str, protocol: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKERS[name](MEMBERS))
    assert [document.text for document in read_members(tmp_path / name, f"{protocol}://b/*.csv")] == ["Of a table."]
    assert len(read_members(tmp_path / name, f"{protocol}://b/one.txt")) == 2
    with pytest.raises(InputError, match=r"nothing in .* is (zip|tar)://c/\*; correct section download"):
        read_members(tmp_path / name, f"{protocol}://c/*")


@pytest.mark.parametrize("name", PACKERS)
def test_a_damaged_archive_is_named(name: str, tmp_path: Path) -> None:
    whole = PACKERS[name]({"a.txt": b"text " * 1000 + bytes(range(32, 127)) * 50})
    for damaged in (b"", whole[:30], whole[:-200], b"no archive"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=name) as error:
            read_members(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_member_whose_bytes_changed_is_named(tmp_path: Path) -> None:
    whole = bytearray(zip_bytes({"a.txt": b"text"}))
    whole[whole.index(b"text") if b"text" in whole else 36] ^= 0xFF
    (tmp_path / "corpus.zip").write_bytes(whole)
    with pytest.raises(InputError, match=r"corpus\.zip: a\.txt is (damaged|not a whole)"):
        read_members(tmp_path / "corpus.zip")


def test_what_a_corpus_says_of_its_files_comes_with_the_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a <unk> b\n\nc\n")
    found = read_members(tmp_path / "a.txt", split="valid", tokenized=True)
    assert [(document.text, document.split, document.tokenized) for document in found] == [
        ("a <unk> b", "valid", True),
        ("c", "valid", True),
    ]
    (tmp_path / "b.csv").write_bytes(csv_bytes(["x"]))
    assert [document.text for document in read_members(tmp_path / "b.csv", text_column="id")] == ["0"]


def test_words_with_tags(tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text("\n\n\tThe/at and/or/cc ``/`` 1/2/cd odd ./.\n\n\tEnd/nn\n")
    (tmp_path / "ca02").write_text("Two/cd\n")
    assert read_members(tmp_path, format="word/tag", tokenized=True) == [
        Document("ca01", "The and/or `` 1/2 odd .\nEnd", None, True),
        Document("ca02", "Two", None, True),
    ]


@pytest.mark.parametrize("name", ["bomb.txt.gz", "bomb.parquet.gz", "bomb.zip", "bomb.txt"])
def test_a_file_that_unpacks_to_too_much_is_refused(name: str, tmp_path: Path) -> None:
    content = b"a b c d\n" * 300_000
    packed = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(zip_bytes({"bomb.txt": content}) if name.endswith(".zip") else packed)
    params = download_params(max_bytes=1_000_000)
    with pytest.raises(InputError, match=r"bomb.* holds more than 1,000,000 bytes; .*download\.max_bytes"):
        list(file_documents(tmp_path / name, "", SourceFile(url="x"), params))


def bombs(unit: bytes, times: int) -> Iterator[tuple[str, bytes]]:
    """Small files of each kind that unpack to `times` units, by name."""
    content = unit * times
    yield "bomb.txt", content
    yield "bomb.txt.gz", gzip.compress(content, mtime=0)
    yield "bomb.csv.gz", gzip.compress(b'body\n"' + content, mtime=0)
    yield "bomb.jsonl.gz", gzip.compress(b'{"body": "' + content, mtime=0)
    for kind, packing in (("stored", 0), ("deflated", 8), ("bzip2", 12), ("lzma", 14)):
        yield f"{kind}.zip", zip_bytes({"bomb.txt": content}, packing)
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")):
        yield f"bomb{suffix}", tar_bytes({"bomb.txt": content}, mode)
    yield "nested.tar.gz", tar_bytes({"bomb.txt.gz": gzip.compress(content, mtime=0)}, "w:gz")
    text = content.decode()
    yield "one.parquet", parquet_bytes(pa.array([text, *"abc"]))
    yield "many.parquet", parquet_bytes(pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array([text])))
    yield "bomb.parquet.gz", gzip.compress(parquet_bytes(pa.array([text])), mtime=0)


# Reads one file with the limits at a hundredth or so, and says what came of it and how much memory it took.
READER = """
import json, resource, sys
from pathlib import Path
from pipeline.runtime.errors import InputError
from pipeline.text.documents import write_documents
from pipeline.text.params import SourceFile
from pipeline.text.sources import text_files
from tests.text.sources.test_text_files import download_params
text_files.LONGEST_DOCUMENT, text_files.MOST_MEMBERS = 1_000_000, 20_000
text_files.LARGEST_PACKED_TABLE = 5_000_000
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
params = download_params(txt_documents="blank-line", max_bytes=20_000_000)
results, before = {}, peak()
for name in sys.argv[2:]:
    path = Path(sys.argv[1]) / name
    found = text_files.file_documents(path, "", SourceFile(url=name), params)
    try:
        write_documents(found, Path(sys.argv[1]).with_suffix(".parquet"))
        told = None
    except InputError as error:
        told = str(error)
    results[name] = [told, (peak() - before) * 1024]
print(json.dumps(results))
"""


def read_in_a_child(folder: Path) -> dict[str, tuple[str | None, int]]:
    """For each file: what refused it, and the bytes of memory that it and those before took."""
    names = sorted(path.name for path in folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder), *names], cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"x", b"x\n"], ids=["one line", "one document"])
def test_memory_is_bounded_whatever_a_file_unpacks_to(tmp_path: Path, unit: bytes) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name, content in bombs(unit, 25_000_000 // len(unit)):
        (files / name).write_bytes(content)
    for name, (told, memory) in read_in_a_child(files).items():
        assert told is not None, name
        assert name in told
        assert "\n" not in told
        assert memory < 45_000_000, (name, told)


@pytest.mark.parametrize(("name", "pack"), [("corpus.zip", zip_bytes), ("corpus.tar.gz", tar_bytes)])
def test_the_limit_is_of_all_members_of_an_archive_together(
    tmp_path: Path, name: str, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    members = {f"{number}.txt.gz": gzip.compress(b"a b c d\n" * 5_000, mtime=0) for number in range(3)}
    (tmp_path / name).write_bytes(pack(members))
    assert len(list(file_documents(tmp_path / name, "", SourceFile(url="x"), download_params(max_bytes=120_000))))
    with pytest.raises(InputError, match=rf"{name} holds more than 119,999 bytes; .*download\.max_bytes"):
        list(file_documents(tmp_path / name, "", SourceFile(url="x"), download_params(max_bytes=119_999)))
    folder = tmp_path / "folder"
    folder.mkdir()
    for member, content in members.items():
        (folder / member).write_bytes(content)
    # Of a folder it is of each file.
    assert len(list(file_documents(folder, "", SourceFile(url="x"), download_params(max_bytes=40_000)))) == 15_000


def test_a_list_of_members_that_is_all_there_is_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MOST_MEMBERS", 20)
    for name, pack in (("a.zip", zip_bytes), ("a.tar.gz", tar_bytes)):
        (tmp_path / name).write_bytes(pack({f"{number}.txt": b"" for number in range(21)}))
        with pytest.raises(InputError, match=rf"{name} has more than 20 members; pack them into several"):
            list(file_documents(tmp_path / name, "", SourceFile(url="x"), download_params()))


def test_a_header_without_end_is_not_read(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x" * 3_000_000)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(entry)
    with pytest.raises(InputError, match=r"a\.tar\.gz is damaged: a member's header has 3,000,"):
        list(file_documents(tmp_path / "a.tar.gz", "", SourceFile(url="x"), download_params()))


@pytest.mark.parametrize("claimed", [0, 5, 15, 17, 1000, (1 << 32) - 2])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_lies_about_sizes_is_one_line_or_what_it_claims(tmp_path: Path, claimed: int, packing: int) -> None:
    content = zip_bytes({"a.txt": b"sixteen letters\n"}, packing)
    at = content.index(b"PK\x01\x02") + 24  # where the list of members has the size
    (tmp_path / "a.zip").write_bytes(content[:at] + claimed.to_bytes(4, "little") + content[at + 4 :])
    with suppress(InputError):
        assert [document.text for document in read_members(tmp_path / "a.zip")] in ([], ["sixteen letters"])


def test_a_zip_with_a_password_is_one_line(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"a.txt": b"text"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip: a\.txt cannot be unpacked \(.*encrypted"):
        read_members(tmp_path / "a.zip")
