"""Commands that train; what `retrain` does is tested in tests/retraining/."""

from pathlib import Path

import pytest

from tests.commands.conftest import rnnlm


def test_training_is_the_pipelines(project: Path) -> None:
    error = rnnlm(project, "train", "lstm", "--epochs", "3", status=1)
    assert "`dvc repro` runs what is out of date" in error
    assert len(error.splitlines()) == 1


def test_only_a_person_may_promote_without_old_sentences(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    error = rnnlm(project, "retrain", "--without-old-sentences", status=1)
    assert error.startswith("error: --without-old-sentences is a person's decision, and CI is set here")
