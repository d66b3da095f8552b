"""A training run mirrored in MLflow while it runs."""

import dataclasses
import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.folder import model_digest
from pipeline.provenance.dvc import dvc_digest
from pipeline.tracking.listener import TrainingRun
from pipeline.tracking.runs import training_tokens
from pipeline.tracking.store import Store, connect
from tests.projects import HISTORY, Project

RUN_FILE = Path("run")


def train(project: Project, until: int = 2, resumed: bool = False) -> TrainingRun:
    """A training that the listener follows up to epoch `until`, not finished."""
    listener = TrainingRun(project.params, project.cell, len(project.vocabulary), RUN_FILE)
    listener.started(123, 14, resumed)
    for record in HISTORY[:until]:
        listener.epoch_ended(record, 2.0, 7.0)
    return listener


def all_runs(store: Store) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id]))


def points(store: Store, run: Any, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run.info.run_id, key)]


def test_a_training_becomes_one_finished_run_with_parameters_curves_dataset_and_model(project: Project) -> None:
    train(project).finished(9.0)
    store = connect()
    (run,) = all_runs(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "lstm, 4 units, 2 epochs, installed-docs, seed 1"  # of the three planned
    assert run.data.params["model.hidden_size"] == "4"
    assert run.data.params["model.embedding_dim"] == "null"
    assert run.data.params["model.bias"] == "true"
    assert run.data.params["train.epochs"] == "3"
    assert run.data.params["model.parameters"] == "123"
    assert run.data.params["vocabulary.size"] == "8"
    assert run.data.params["machine.processor"]
    assert points(store, run, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert points(store, run, "train/loss") == [(1, 2.5), (2, 1.5)]
    assert points(store, run, "speed/tokens_per_second") == [(1, 7.0), (2, 7.0)]
    assert points(store, run, "speed/training_seconds") == [(0, 9.0)]
    assert run.data.tags["model_digest"] == model_digest(project.models)
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest == dvc_digest(Path("data/encoded/train"))
    assert len(used.dataset.digest) <= 36
    assert json.loads(used.dataset.profile) == {"sentences": 3, "tokens": 14}
    assert training_tokens(run) == 14
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.name == "lstm"
    assert {metric.key for metric in model.metrics or []} >= {"valid/perplexity"}
    assert Path(model.artifact_location.removeprefix("file://")).is_relative_to(project.folder / "mlruns")


def test_points_arrive_while_it_trains_and_a_killed_training_says_so(project: Project) -> None:
    listener = train(project, until=1)
    store = connect()
    (run,) = all_runs(store)
    assert run.info.status == "RUNNING"
    assert points(store, run, "valid/perplexity") == [(1, 7.39)]
    listener.failed(killed=True)
    assert all_runs(store)[0].info.status == "KILLED"


def test_the_load_of_the_machine_is_on_the_run_with_the_time_it_was_measured(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    others = set(threading.enumerate())  # of tests that left a run unfinished
    store = connect()
    epochs = itertools.count(2)

    def loads_beyond(count: int, listener: TrainingRun) -> list[tuple[int, float]]:
        (run,) = all_runs(store)
        while len(loads := points(store, run, "system/system_memory_usage_percentage")) <= count:
            # they come with an epoch's points
            epoch = next(epochs)
            assert epoch < 1000, "no sample has come"
            listener.epoch_ended(dataclasses.replace(HISTORY[0], epoch=epoch), 2.0, 7.0)
        return loads

    listener = train(project, until=1)
    loads = loads_beyond(0, listener)
    assert all(0 < share < 100 for _, share in loads)
    listener.failed(killed=True)
    after = train(project, resumed=True)
    # What the first one had sent in its end counts as well: the second must add to that.
    loads_beyond(len(points(store, all_runs(store)[0], "system/system_memory_usage_percentage")), after)
    after.finished(9.0)
    (run,) = all_runs(store)
    times = [step for step, _ in points(store, run, "system/cpu_utilization_percentage")]
    assert times == sorted(set(times))
    assert times[-1] <= time.time() * 1000 - run.info.start_time
    started = [thread for thread in threading.enumerate() if thread.name == "machine load" and thread not in others]
    assert all(stopped(thread) for thread in started)
    model = store.client.get_logged_model(all_runs(store)[0].outputs.model_outputs[0].model_id)
    assert not [metric for metric in model.metrics or [] if metric.key.startswith("system/")]


def stopped(thread: threading.Thread) -> bool:
    thread.join(60)
    return not thread.is_alive()


def test_an_interrupted_training_goes_on_in_its_run(project: Project) -> None:
    train(project, until=1).failed(killed=True)
    store = connect()
    resumed = train(project, resumed=True)  # the first epoch again: it ended after the last checkpoint
    (run,) = all_runs(store)
    assert run.info.status == "RUNNING"
    resumed.finished(9.0)
    (run,) = all_runs(store)
    assert run.info.status == "FINISHED"
    assert points(store, run, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert points(store, run, "train/loss") == [(1, 2.5), (2, 1.5)]


@pytest.mark.parametrize("content", [None, "0" * 32, "no run"])
def test_a_training_whose_run_is_gone_gets_another(project: Project, content: str | None) -> None:
    if content is not None:
        RUN_FILE.write_text(content)
    train(project, resumed=True).finished(9.0)
    store = connect()
    (run,) = all_runs(store)
    assert points(store, run, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert RUN_FILE.read_text() == run.info.run_id
