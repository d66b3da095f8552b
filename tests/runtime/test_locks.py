"""One block of a lock at a time."""

from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.runtime.locks import one_at_a_time


def test_a_second_block_ends_with_what_there_is_to_say_until_the_first_is_over(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "work.lock"
    with (
        one_at_a_time(lock, "somebody works"),
        pytest.raises(InputError, match=r"^somebody works$"),
        one_at_a_time(lock, "somebody works"),
    ):
        pytest.fail("two at once")
    with pytest.raises(ZeroDivisionError), one_at_a_time(lock, "somebody works"):
        raise ZeroDivisionError
    with one_at_a_time(lock, "somebody works"):
        pass
