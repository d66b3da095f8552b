from collections.abc import Callable

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
