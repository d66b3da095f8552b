"""Commands that ask and decide, where nothing is tracked; what they do is tested in tests/review/."""

from pathlib import Path

import pytest

from tests.commands.conftest import rnnlm


@pytest.mark.parametrize("arguments", [("runs",), ("compare", "champion", "challenger"), ("promote",), ("rollback",)])
def test_without_tracking_there_is_nothing_to_ask(project: Path, arguments: tuple[str, ...]) -> None:
    assert "RNNLM_TRACKING=off" in rnnlm(project, *arguments, status=1)
