"""The open store: what it answers, and that asking changes nothing."""

from pathlib import Path

from mlflow.pyfunc import load_model
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.review.listing import find
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import LARGEST_PAGE, LONGEST_NOTE, connect, fitting
from tests.projects import Project
from tests.review.candidates import candidate, write_corpus


def test_reading_never_writes(project: Project) -> None:
    write_corpus(sentences=20)
    for power in (0.5, 1.0):
        candidate(project, power=power)
    connect().set_alias("champion", "1")
    before = Path("mlflow.db").read_bytes()
    for command in (["runs"], ["runs", "--json"], ["compare", "v1", "v2"], ["relocate"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    run = find(connect(), "champion")
    assert read_provenance(connect(), run.info.run_id) is not None
    assert len(load_model("models:/rnnlm@champion").predict(["w1 w2"])) == 1
    # A store that was written to would differ: SQLite counts the changes in its header.
    assert Path("mlflow.db").read_bytes() == before
    connect().tag(run.info.run_id, seen="true")
    assert Path("mlflow.db").read_bytes() != before


def test_more_points_than_mlflow_takes_at_once_all_arrive(project: Project) -> None:
    store = connect()
    run = store.client.create_run(store.experiment_id).info.run_id
    store.log_points(run, {f"m{number}": 1.0 for number in range(LARGEST_PAGE + 1)}, 0)
    assert len(store.run(run).data.metrics) == LARGEST_PAGE + 1


def test_artifacts_are_read_by_their_path(project: Project) -> None:
    store = connect()
    run = store.client.create_run(store.experiment_id).info.run_id
    store.log_files(run, "some", {"a.txt": b"a"})
    assert store.read_file(run, "some/a.txt") == b"a"
    assert store.read_file(run, "some/b.txt") is None


def test_a_note_is_cut_at_the_end_of_a_line() -> None:
    lines = "".join(f"{number:099}\n" for number in range(60))
    cut = fitting(lines)
    assert len(cut) <= LONGEST_NOTE
    assert lines.startswith(f"{cut}\n")
    assert fitting("short") == "short"
