"""What is not as dvc.lock says; the command is in tests/system/test_dvc_complaints.py."""

from pathlib import Path

import pytest

from pipeline.params import read_params
from pipeline.provenance import git
from pipeline.provenance.dvc import read_lock
from pipeline.provenance.verification import changed_since, commit_of_results, outputs_unlike_lock
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


def test_what_changed_since_a_stage_ran_is_named(project: Project) -> None:
    lock_everything()
    assert set(map(tuple, changed_since(read_lock(), read_params()).values())) == {()}
    params = read_params()
    params["train"]["epochs"] = 9
    del params["tokenize"]["lowercase"]
    (project.evaluation / "metrics.json").unlink()
    changes = changed_since(read_lock(), params)
    assert changes["train@lstm"] == ["train.epochs"]
    assert changes["tokenize"] == ["tokenize.lowercase"]
    assert changes["evaluate@lstm"] == [f"{project.evaluation}/metrics.json"]
    assert changes["report"] == []


def test_results_are_of_the_commit_that_brought_them(project: Project) -> None:
    assert commit_of_results() == "results of no commit"
    lock_everything()
    git.output("init", "-q")
    author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for name in ("first", "second"):
        Path(name).touch()
        git.output("add", name, "dvc.lock")
        git.output(*author, "commit", "-q", "-m", name)
    first = git.output("log", "-1", "--format=%h", "HEAD~1")
    Path(".gitignore").write_text("/data\n")
    assert commit_of_results().startswith(f"results of commit {first} of 20")
    Path("dvc.lock").write_text("stages: {}\n")
    assert commit_of_results() == "results not committed yet"
