"""Runs in MLflow: one a training, evaluation and report in the same one, and a store that fails is borne."""

import shutil
import socket
from pathlib import Path

import pytest

from pipeline.model.folder import model_digest
from pipeline.provenance.dvc import dvc_digest
from pipeline.runtime.paths import WARM_START
from pipeline.tracking import runs
from pipeline.tracking.store import connect
from pipeline.training.first_weights import first_weights_of
from tests.projects import Project
from tests.tracking.test_listener import all_runs, points, train

RUN_FILE = Path("run")


def test_evaluation_and_report_go_into_the_run_of_their_model(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    train(project).finished(9.0)
    project.train(seed=2)  # a newer model, trained with other bytes
    train(project).finished(9.0)
    project.train(seed=1)  # `dvc checkout` of the older one
    runs.log_evaluation(project.params, project.cell.name)
    runs.log_report(["lstm"])
    store = connect()
    newer, run = all_runs(store)
    assert not any(key.startswith("test/") for key in newer.data.metrics)
    assert run.data.metrics["test/perplexity"] == 6.0
    assert run.data.metrics["test_interval/perplexity_low"] == 5.0
    assert "The cat sees the dog." in run.data.tags["mlflow.note.content"]
    assert "6.00" in run.data.tags["mlflow.note.content"]
    assert "    *Not* markup" in run.data.tags["mlflow.note.content"]
    assert "restored" not in run.data.tags
    listed = [
        item.path
        for folder in ("evaluation", "report")
        for item in store.client.list_artifacts(run.info.run_id, folder)
    ]
    assert listed == [
        "evaluation/metrics.json",
        "evaluation/samples.txt",
        "report/curves.png",
        "report/index.html",
        "report/report.md",
    ]
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    linked = {metric.key: metric for metric in model.metrics or []}["test/perplexity"]
    assert linked.dataset_digest == dvc_digest(Path("data/encoded/test"))
    page = Path(store.client.download_artifacts(run.info.run_id, "report/index.html")).read_text()
    assert run.info.run_id in page  # the stage's own says nothing of runs
    note = store.client.get_experiment(store.experiment_id).tags["mlflow.note.content"]
    page = f"#/experiments/{store.experiment_id}/runs/{run.info.run_id}/artifacts/report/index.html"
    for text in (run.data.tags["mlflow.note.content"], note):
        assert text.split("\n\n")[1] == f"[The whole report, with its figures]({page})"
    assert "| model | perplexity |" in note
    assert "more" not in note
    assert capsys.readouterr().err == ""


def test_an_evaluation_that_runs_again_draws_no_point_twice(project: Project) -> None:
    train(project).finished(9.0)
    for _ in range(2):
        runs.log_evaluation(project.params, project.cell.name)
    project.evaluate(perplexity=5.5)
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (run,) = all_runs(store)
    assert [value for _, value in points(store, run, "test/perplexity")] == [6.0, 5.5]
    assert run.data.metrics["test/perplexity"] == 5.5


def test_a_warm_start_is_on_the_run_and_its_page(project: Project) -> None:
    shutil.copytree(project.models, WARM_START)
    project.vocabulary.save(WARM_START / "vocabulary.tsv")
    begun_with = model_digest(WARM_START)
    project.train(seed=2)
    train(project).finished(9.0)
    (run,) = all_runs(connect())
    assert run.data.tags["warm_start"] == begun_with
    assert begun_with in run.data.tags["mlflow.note.content"]
    # Another cell begins with random weights all the same.
    assert first_weights_of(project.cell.model.model_copy(update={"cell": "gru"})) is None


def test_what_broke_off_from_other_weights_is_another_training(project: Project) -> None:
    train(project, until=1).failed(killed=True)
    shutil.copytree(project.models, WARM_START)
    project.vocabulary.save(WARM_START / "vocabulary.tsv")
    project.train(seed=2)
    runs.log_evaluation(project.params, project.cell.name)
    assert [run.info.status for run in all_runs(connect())] == ["FINISHED", "KILLED"]


def test_a_model_that_nobody_saw_train_gets_a_run_marked_restored(project: Project) -> None:
    for _ in range(2):
        runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (run,) = all_runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["restored"] == "true"
    assert "machine.processor" not in run.data.params
    assert points(store, run, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert run.data.metrics["test/perplexity"] == 6.0
    weights = 4 * (8 * 4 + 4 * 4 + 4) + 8 * 4  # U, W, b of four gates, and V
    assert run.data.params["model.parameters"] == str(weights)
    assert run.outputs.model_outputs


def test_a_run_that_broke_off_is_completed_not_doubled(project: Project) -> None:
    train(project, until=1)  # and MLflow's server dies
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (run,) = all_runs(store)
    assert run.info.status == "FINISHED"
    assert points(store, run, "valid/perplexity") == [(1, 7.39), (2, 5.75)]
    assert "restored" not in run.data.tags
    assert run.data.params["machine.processor"]


def test_a_dead_server_costs_one_warning_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    train(project).finished(9.0)
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("warning: ")
    assert "rnnlm sync" in line
    assert "secret" not in line


def test_tracking_can_be_switched_off(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    train(project).finished(9.0)
    runs.log_evaluation(project.params, project.cell.name)
    assert capsys.readouterr().err == ""
    assert all_runs(connect()) == []
