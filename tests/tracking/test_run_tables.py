"""The runs as their tables have them are those that MLflow's search finds."""

import math

import pytest
from mlflow.entities import Metric, Param

from pipeline.tracking.store import Store, connect
from tests.projects import Project


@pytest.fixture
def store(project: Project) -> Store:
    store = connect()
    elsewhere = store.client.create_experiment("another")
    for number, experiment in enumerate((store.experiment_id, elsewhere, *[store.experiment_id] * 3)):
        run_id = store.client.create_run(experiment, 10 * number, {"a": "1", "b": "ä"}, f"run {number}").info.run_id
        values = {"test/loss": number / 3, "not a number": math.nan, "infinite": math.inf, "minus": -math.inf}
        points = [Metric(key, value, 1, step) for key, value in values.items() for step in (0, 1)]
        store.client.log_batch(run_id, points[number:], [Param("p", "1" * number), Param("q", "")])
        store.client.set_terminated(run_id, "KILLED")
    store.client.create_run(store.experiment_id)  # with nothing in it
    store.client.delete_run(store.client.create_run(store.experiment_id, run_name="deleted").info.run_id)
    return store


@pytest.mark.parametrize("limit", [None, 1, 3, 100])
def test_they_are_those_that_mlflow_finds(store: Store, limit: int | None) -> None:
    order = ["attributes.start_time DESC"]
    expected = store.client.search_runs([store.experiment_id], max_results=limit or 1000, order_by=order)
    found = store.runs(limit)
    assert len(found) == min(limit or 5, 5)
    for run, other in zip(found, expected, strict=True):
        assert dict(run.info) == dict(other.info)
        assert (run.data.params, run.data.tags) == (other.data.params, other.data.tags)
        assert repr(sorted(run.data.metrics.items())) == repr(sorted(other.data.metrics.items()))
