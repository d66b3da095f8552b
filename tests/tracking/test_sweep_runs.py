"""A sweep and its trials in MLflow: nested, apart from the models' runs, and nothing left running after a kill."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.params import CellParams
from pipeline.tracking.store import EXPERIMENT, Store, connect
from pipeline.tracking.sweep_runs import PARENT, RUN_FILE, SWEEPS_EXPERIMENT, SweepRun, TrialRun
from tests.projects import HISTORY, Project

SWEEP, TRIAL = Path("sweep"), Path("sweep/trials/7")


@pytest.fixture
def store(project: Project) -> Store:
    return connect(name=SWEEPS_EXPERIMENT)


def begun(*interrupted: Path) -> SweepRun:
    run = SweepRun(SWEEP)
    run.started("sweep over text", {"tune.search.cell": "['gru']"}, interrupted)
    return run


def trial(project: Project, parent: str | None) -> TrialRun:
    cell: CellParams = dataclasses.replace(project.cell, name="trial-7")
    return TrialRun(project.params, cell, len(project.vocabulary), TRIAL, 7, parent)


def by_status(store: Store) -> dict[str, str]:
    return {run.info.run_id: run.info.status for run in store.runs()}


def points(store: Store, run: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run, key)]


def the_run(file: Path) -> str:
    return file.read_text().strip()


def test_trials_are_runs_below_that_of_the_sweep_and_apart_from_those_of_models(project: Project, store: Store) -> None:
    sweep = begun()
    run = trial(project, sweep.run_id)
    run.started(123, 14, resumed=False)
    for record in HISTORY:
        run.epoch_ended(record, 2.0, 7.0)
    one = the_run(TRIAL / RUN_FILE)
    assert by_status(store) == {sweep.run_id: "RUNNING", one: "RUNNING"}
    run.ended("FINISHED", 9.0, trial="finished", weights="abc")
    sweep.trial_ended(5.75, "Best so far: trial 7.")
    sweep.ended("FINISHED")
    assert by_status(store) == {sweep.run_id: "FINISHED", one: "FINISHED"}
    found = store.run(one)
    assert found.data.tags[PARENT] == sweep.run_id
    assert (found.data.tags["trial"], found.data.tags["weights"]) == ("finished", "abc")
    assert found.info.run_name == "trial 7, trial-7 (lstm), 4 units, 3 epochs, installed-docs, seed 1"
    assert (found.data.params["model.hidden_size"], found.data.params["model.parameters"]) == ("4", "123")
    assert points(store, one, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert points(store, one, "speed/training_seconds") == [(0, 9.0)]
    parent = store.run(str(sweep.run_id))
    assert parent.data.metrics["valid/best_perplexity"] == 5.75
    assert parent.data.tags["mlflow.note.content"] == "Best so far: trial 7."
    assert parent.data.params == {"tune.search.cell": "['gru']"}
    assert connect().runs() == []
    assert store.client.get_experiment_by_name(EXPERIMENT)


def test_a_trial_that_was_killed_goes_on_in_its_run_also_without_a_checkpoint(project: Project, store: Store) -> None:
    sweep = begun()
    run = trial(project, sweep.run_id)
    run.started(123, 14, resumed=False)
    run.epoch_ended(HISTORY[0], 2.0, 7.0)
    again = begun(SWEEP / RUN_FILE, TRIAL / RUN_FILE)  # as after a kill of the process
    assert again.run_id == sweep.run_id
    one = the_run(TRIAL / RUN_FILE)
    assert by_status(store) == {sweep.run_id: "RUNNING", one: "KILLED"}  # whether or not the trial goes on
    run = trial(project, again.run_id)
    run.started(123, 14, resumed=False)
    assert by_status(store)[one] == "RUNNING"
    for record in HISTORY:
        run.epoch_ended(record, 2.0, 7.0)
    run.ended("FINISHED", 9.0, trial="finished")
    assert points(store, one, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert len(by_status(store)) == 2


@pytest.mark.parametrize("content", ["0" * 32, "no run"])
def test_runs_that_the_store_does_not_have_are_begun_anew(content: str, project: Project, store: Store) -> None:
    other = Path("other") / RUN_FILE
    for file in (SWEEP / RUN_FILE, other):
        file.parent.mkdir(parents=True)
        file.write_text(content)
    sweep = begun(SWEEP / RUN_FILE, other)
    assert by_status(store) == {sweep.run_id: "RUNNING"}
    assert the_run(SWEEP / RUN_FILE) == sweep.run_id


def test_without_tracking_a_sweep_has_no_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    sweep = begun()
    run: Any = trial(project, sweep.run_id)
    run.started(123, 14, resumed=False)
    run.ended("FINISHED", 9.0)
    sweep.ended("FINISHED")
    assert sweep.run_id is None
    assert not SWEEP.exists()
