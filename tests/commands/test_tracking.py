"""Commands for MLflow's store, where nothing is tracked; what they do is tested in tests/tracking/."""

import json
from pathlib import Path

from tests.commands.conftest import rnnlm


def test_without_tracking_nothing_is_brought_up_to_date(project: Path) -> None:
    assert rnnlm(project, "sync") == "skipped, as RNNLM_TRACKING is off\n"
    assert json.loads(rnnlm(project, "sync", "--json")) == ["skipped, as RNNLM_TRACKING is off"]
