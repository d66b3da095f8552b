import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from pipeline.runtime import patience
from pipeline.runtime.errors import InputError


@pytest.mark.parametrize("ask", [patience.transfer_seconds, patience.scheduler_seconds])
@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, ask: Callable[[], float]) -> None:
    name = {patience.transfer_seconds: "RNNLM_TRANSFER_SECONDS"}.get(ask, "RNNLM_SCHEDULER_SECONDS")
    monkeypatch.setenv(name, text)
    with pytest.raises(InputError, match=f"^{name} is '{text}'; set it to a number of seconds above 0$"):
        ask()
    monkeypatch.setenv(name, "2.5")
    assert ask() == 2.5


def test_pieces_come_as_they_are_and_errors_too() -> None:
    left: list[str] = []

    def pieces() -> Iterator[int]:
        try:
            yield from range(3)
            raise ValueError("the end")
        finally:
            left.append("closed")

    read = patience.in_time(pieces, 60)
    assert [next(read) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the end"):
        next(read)
    assert left == ["closed"]
    assert list(patience.in_time(lambda: iter(()), 60)) == []
    # Who stops in the middle keeps no thread and no connection.
    with closing(patience.in_time(pieces, 60)) as read:
        next(read)
    end = time.monotonic() + 60
    while len(left) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert left == ["closed"] * 2


def test_what_takes_too_long_is_left_behind() -> None:
    def pieces() -> Iterator[int]:
        yield 1
        time.sleep(5)

    read = patience.in_time(pieces, 0.05)
    assert next(read) == 1
    with pytest.raises(TimeoutError, match=r"for 0\.05 seconds"):
        next(read)


def test_how_long_an_exchange_with_mlflow_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNLM_TRANSFER_SECONDS", "7")
    files = ("/api/2.0/mlflow-artifacts/artifacts/1/model", "/bucket/key")
    assert [patience.exchange_seconds(path) for path in files] == [7, 7]
    message = "/api/2.0/mlflow/runs/get"
    for answer, expected in (("5", 60), ("90", 90)):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", answer)
        assert patience.exchange_seconds(message) == expected
