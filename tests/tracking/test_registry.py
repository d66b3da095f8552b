"""Versions of the registered model, its champion and its challenger."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.folder import model_digest
from pipeline.review.challenger import log_challenger
from pipeline.review.promotion import the_challenger
from pipeline.runtime.errors import InputError
from pipeline.tracking import registry, runs
from pipeline.tracking.store import MODEL, Store, connect
from tests.projects import Project
from tests.review.candidates import candidate, write_corpus


def log(project: Project) -> None:
    runs.log_evaluation(project.params, project.cell.name)


def test_an_evaluated_model_is_a_version_once(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow

    for _ in range(2):
        log(project)
    store = connect()
    (version,) = store.versions()
    digest = model_digest(project.models)
    assert version.tags["model_digest"] == digest
    assert version.tags["cell"] == "lstm"
    assert version.tags["test_perplexity"] == "6"
    assert version.tags["test_perplexity_low"] == "5"
    assert version.tags["valid_perplexity"] == "5.75"
    run = store.run(version.tags["run_id"])
    assert run.data.tags["model_digest"] == digest
    assert run.outputs is not None
    assert version.source == f"models:/{run.outputs.model_outputs[0].model_id}"
    assert "perplexity 6.00 (95% interval 5.00 to 7.00)" in (version.description or "")
    served: Any = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    assert served.predict(["the cat"])["tokens"].tolist() == [3]
    assert capfd.readouterr().err == ""
    project.train(seed=2)
    log(project)
    assert [version.tags["model_digest"] for version in store.versions()] == [digest, model_digest(project.models)]


def test_a_model_of_another_experiment_is_no_version_nor_challenger(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(project)
    with monkeypatch.context() as other:
        other.setenv("RNNLM_EXPERIMENT", "recipe small")
        log(project)
        log_challenger(["lstm"])  # of the same bytes as the version
        project.train(seed=2)
        log(project)
        assert len(connect().runs()) == 2
    assert len(connect().runs()) == len(connect().versions()) == 1
    assert connect().aliases() == {}


def test_a_new_evaluation_changes_the_figures_and_keeps_what_was_decided(project: Project) -> None:
    log(project)
    store = connect()
    registry.note_decision(store, "1", "2026-01-01: a decision.")
    registry.note_decision(store, "1", "2026-01-02: another.")
    registry.note_decision(store, "1", "2026-01-02: another.")
    project.evaluate(perplexity=5.5)
    log(project)
    (version,) = store.versions()
    assert version.tags["test_perplexity"] == "5.5"
    headline, _, decisions = (version.description or "").partition("### Decisions")
    assert "perplexity 5.50 (" in headline
    assert decisions.strip().splitlines() == ["- 2026-01-02: another.", "- 2026-01-01: a decision."]


def test_processes_that_register_the_same_model_at_once_leave_one_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(runs, "register", lambda *_: False)
        log(project)
    store = connect()
    (run,) = store.client.search_runs([store.experiment_id])
    together, first_look = threading.Barrier(3), threading.local()
    search = Store.version_of

    def slow(store: Store, digest: str) -> Any:
        found = search(store, digest)
        if not hasattr(first_look, "over"):
            first_look.over = True
            together.wait(20)  # all have seen that there is none
        return found

    monkeypatch.setattr(Store, "version_of", slow)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: registry.register(store, run.info.run_id), range(3)))
    assert len(store.versions()) == 1


def test_the_challenger_is_the_best_on_the_validation_split_of_the_cells_of_today(project: Project) -> None:
    write_corpus()
    store = connect()
    with pytest.raises(InputError, match="no challenger"):
        the_challenger(store)
    candidate(project, power=0.5, valid=4.0)
    assert store.aliases() == {"challenger": "1"}
    # Worse on validation, but what the pipeline has now.
    candidate(project, power=1.0, valid=6.0)
    assert store.aliases() == {"challenger": "2"}
    other = Path("data/models/other")
    other.mkdir()
    for file in project.models.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    candidate(project, power=0.2, valid=7.0)
    assert store.aliases() == {"challenger": "3"}
    runs.log_report(["lstm", "other"])
    log_challenger(["lstm", "other"])
    assert store.aliases() == {"challenger": "2"}
