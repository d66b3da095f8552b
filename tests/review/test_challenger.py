"""Which version the pipeline names as challenger, and that only what was judged is promoted."""

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import load_params
from pipeline.review.promotion import carry_out, decide
from pipeline.runtime.errors import InputError
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.review.candidates import candidate, write_corpus


def test_uncommitted_work_never_becomes_the_challenger_of_others(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_corpus()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('server')}/mlflow.db")
    candidate(project, power=0.5)  # of which nobody knows a commit
    store = connect()
    assert store.aliases() == {}
    (version,) = store.versions()
    store.tag(str(version.run_id), git_dirty="false")
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0
    assert store.aliases() == {"challenger": "1"}
    candidate(project, power=1.0)
    store.tag(str(store.versions()[1].run_id), git_dirty="true")
    for command in (["sync"], ["promote", "--without-ngram"]):  # what lies in data/ is not the challenger
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "lstm: not made challenger, as others use this store and no commit has what it was made" in done.output
    assert store.aliases() == {"challenger": "1", "champion": "1"}


def test_in_a_store_of_ones_own_it_does(project: Project) -> None:
    write_corpus()
    candidate(project)
    connect().tag(str(connect().versions()[0].run_id), git_dirty="true")
    candidate(project, power=0.5)
    assert connect().aliases() == {"challenger": "2"}


def test_what_was_judged_is_promoted_though_the_alias_has_moved_on(project: Project) -> None:
    write_corpus()
    store = connect()
    candidate(project, power=0.2)
    carry_out(store, decide(store, "1", 0.95, load_params()))
    candidate(project, power=1.0)
    verdict = decide(store, "2", 0.95, load_params())
    candidate(project, power=0.9)  # another clone's `rnnlm sync`
    assert store.aliases()["challenger"] == "3"
    assert verdict.outcome == "promoted"
    carry_out(store, verdict)
    assert store.aliases() == {"challenger": "3", "champion": "2"}


def test_a_sync_that_reaches_nothing_does_not_end_well(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_corpus()
    candidate(project)
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0
    # A checkout that was moved, with its database: that still looks for its artifacts where they were.
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    project.folder.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow keeps the address of the store there
    done = CliRunner().invoke(app, ["sync"])
    assert isinstance(done.exception, InputError)
    assert "run `rnnlm relocate`" in str(done.exception)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    done = CliRunner().invoke(app, ["sync"])
    assert isinstance(done.exception, InputError)
    assert "is its server up?" in str(done.exception)
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    assert CliRunner().invoke(app, ["sync"]).stdout == "skipped, as RNNLM_TRACKING is off\n"
