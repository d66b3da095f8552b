from pathlib import Path

import pytest

from pipeline.provenance.warm_start_file import read_digests, write_digests
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODEL_FILES, WARM_START_REQUEST
from tests.conftest import PROJECT

DIGESTS = {name: f"{number:032x}" for number, name in enumerate(MODEL_FILES)}


def test_what_is_written_is_read_and_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    for digests in (DIGESTS, {}):
        write_digests(digests, tmp_path)
        assert read_digests(tmp_path / WARM_START_REQUEST) == digests
        before = (tmp_path / WARM_START_REQUEST).stat()
        write_digests(digests, tmp_path)
        after = (tmp_path / WARM_START_REQUEST).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_training_begins_with_random_weights_by_default() -> None:
    assert read_digests(PROJECT / WARM_START_REQUEST) == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"model.safetensors": "1"}', str(DIGESTS).replace("'", '"').replace("0", "X")]
)
def test_anything_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(InputError, match=r"must hold \{\}, or the MD5 of "):
        read_digests(tmp_path / "file.json")
    with pytest.raises(InputError, match="is missing; `git checkout "):
        read_digests(tmp_path / "none.json")
