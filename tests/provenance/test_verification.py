"""What is not as dvc.lock says; the command is in tests/system/test_dvc_complaints.py."""

from pathlib import Path

import pytest

from pipeline.provenance.verification import outputs_unlike_lock
from pipeline.runtime.errors import InputError
from tests.projects import Project, lock_everything


def test_other_and_missing_files_are_told_from_whole_ones(project: Project) -> None:
    with pytest.raises(InputError, match="lock is missing"):
        outputs_unlike_lock()
    lock_everything()
    count, wrong = outputs_unlike_lock()
    assert count > 3
    assert wrong == {}
    Path("data/report/new.png").touch()
    (project.models / "config.json").unlink()
    assert outputs_unlike_lock() == (
        count,
        {f"{project.models}/config.json": "is missing", "data/report": "has other bytes"},
    )
