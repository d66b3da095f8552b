import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, scratch_folder, write_text


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("old", [None, "old"])
def test_the_file_appears_whole_when_the_block_ends(old: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old)
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent  # else it could not be renamed to `path`
        assert temporary != path
        temporary.write_text("new")
        assert (path.read_text() if path.exists() else None) == old
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [[], ["old"]])
def test_a_failed_block_leaves_what_was_there(old: list[str], kind: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    for text in old:
        path.write_text(text)
    with pytest.raises(kind), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise kind
    assert [found.read_text() for found in tmp_path.iterdir()] == old


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the block that ends last
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_fails_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match="device or a pipe"):
            write_text(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_char_device()
    assert len(list(tmp_path.iterdir())) == 2


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(str(tmp_path / "a" / "b" / "file.txt"), "text")
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "text"


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(mask: int, mode: int, tmp_path: Path) -> None:
    os.umask(mask)
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == mode
    assert os.umask(mask) == mask


def test_text_is_utf8_with_the_line_ends_it_has(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "é\nline\n\u2028")
    assert (tmp_path / "file.txt").read_bytes() == b"\xc3\xa9\nline\n\xe2\x80\xa8"


def test_text_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file.txt", "half \ud800")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".[a].b.xyz.partial").write_text("half")
    (tmp_path / ".other.xyz.partial").write_text("of another file")
    write_text(tmp_path / "[a].b", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.xyz.partial", "[a].b"]


def test_a_scratch_folder_is_empty_at_the_start_and_gone_in_the_end(tmp_path: Path) -> None:
    (tmp_path / ".out.scratch").mkdir()
    (tmp_path / ".out.scratch" / "left").touch()
    with scratch_folder(tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        assert list(folder.iterdir()) == []
        (folder / "more").touch()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path / "out"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
