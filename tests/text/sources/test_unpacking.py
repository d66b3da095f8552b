import gzip
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
import pytest

from pipeline.runtime.errors import InputError
from pipeline.text.params import SourceFile
from pipeline.text.sources import unpacking
from pipeline.text.sources.text_files import file_documents
from tests.conftest import PROJECT
from tests.text.sources.text_bytes import csv_bytes, download_params, parquet_bytes, read_members, tar_bytes, zip_bytes

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


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_is_read_like_a_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / "inside" / "deep" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(PACKERS[name](MEMBERS))
    found = [document.text for document in read_members(path)]
    assert found == ["Packed twice.", "First.", "Second.", "Of a table.", "Of Parquet."]
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize("name", ["download", "corpus.bin", "corpus.tar.gz", "corpus.zip", "corpus.TGZ", "corpus.tar"])
@pytest.mark.parametrize("kind", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_known_by_what_it_holds_whatever_its_name(name: str, kind: str, tmp_path: Path) -> None:
    content = zip_bytes(MEMBERS) if kind == "zip" else tar_bytes(MEMBERS, kind)
    (tmp_path / name).write_bytes(content)
    assert len(read_members(tmp_path / name)) == 5
    members = f"{'zip' if kind == 'zip' else 'tar'}://b/*.csv"
    assert [document.text for document in read_members(tmp_path / name, members)] == ["Of a table."]


@pytest.mark.parametrize("name", ["corpus.csv", "corpus.txt.gz", "corpus.jsonl"])
def test_a_tar_archive_is_known_that_is_named_like_a_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(tar_bytes(MEMBERS))
    assert len(read_members(tmp_path / name)) == 5


def test_what_an_office_program_wrote_is_no_archive_of_texts(tmp_path: Path) -> None:
    for member in ("[Content_Types].xml", "mimetype"):
        (tmp_path / "table.xlsx").write_bytes(zip_bytes({member: b"x", "a.txt": b"no"}))
        with pytest.raises(InputError, match=r"table\.xlsx is of an unknown kind"):
            read_members(tmp_path / "table.xlsx")


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
from pipeline.text.sources import table_files, text_files, text_lines, unpacking
from tests.text.sources.text_bytes import download_params
text_lines.LONGEST_DOCUMENT = table_files.LONGEST_DOCUMENT = 1_000_000
unpacking.MOST_MEMBERS = 20_000
table_files.LARGEST_PACKED_TABLE = 5_000_000
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
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 20)
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


@pytest.mark.parametrize(
    ("kind", "size", "line"),
    [
        (tarfile.SYMTYPE, None, r"b\.txt is damaged \(neither a file nor a link to one in the archive\); fetch"),
        (tarfile.LNKTYPE, None, r"b\.txt is damaged \(neither a file nor a link to one in the archive\); fetch"),
        (tarfile.FIFOTYPE, None, r"b\.txt is damaged \(neither a file nor a link to one in the archive\); fetch"),
        (tarfile.REGTYPE, b"\xff" * 12, r"is not a whole archive \(a member has less than no bytes\); fetch"),
        (tarfile.REGTYPE, b"\x80" + b"\x0f" * 11, r"is not a whole archive \(a member ends where no file"),
        (tarfile.REGTYPE, b"\x80" + (1 << 62).to_bytes(11), r"is not a whole archive \(a member ends where no file"),
    ],
)
def test_a_tar_with_members_that_no_folder_has_is_one_line(
    tmp_path: Path, kind: bytes, size: bytes | None, line: str
) -> None:
    entry = tarfile.TarInfo("b.txt")
    entry.type, entry.linkname = kind, "/etc/passwd"
    block = bytearray(entry.tobuf())
    if size:
        block[124:136] = size
        block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    (tmp_path / "a.tar").write_bytes(bytes(block) + b"text\n".ljust(512, b"\0") + bytes(1024))
    with pytest.raises(InputError, match=line):
        read_members(tmp_path / "a.tar")


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
