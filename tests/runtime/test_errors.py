import errno

import pytest

from pipeline.runtime.errors import StoppedError, is_of_the_machine, one_line


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(errno.EACCES, "no"), OSError(errno.ENOSPC, "full")])
def test_what_the_machine_lacks(error: Exception) -> None:
    assert is_of_the_machine(error)


@pytest.mark.parametrize("error", [ValueError("[Errno 28] No space left on device"), EOFError(), OSError("odd file")])
def test_what_is_the_files_fault(error: Exception) -> None:
    assert not is_of_the_machine(error)


def test_who_stops_says_by_which_signal() -> None:
    assert StoppedError("stopped", 15).signal == 15
    assert str(StoppedError("stopped", 15)) == "stopped"


def test_an_error_of_several_lines_is_one() -> None:
    assert one_line(ValueError("one:\n\n   two\tthree ")) == "one: two three"
