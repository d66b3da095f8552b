"""What a person may call a run."""

import socket
from pathlib import Path

import pytest

from pipeline.review.listing import find
from pipeline.runtime.errors import InputError
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store, connect, open_store
from tests.projects import Project


@pytest.fixture
def store(project: Project) -> Store:
    return connect()


def make_run(store: Store, name: str, start: int = 0) -> str:
    return store.client.create_run(store.experiment_id, start_time=start, run_name=name).info.run_id


def test_an_id_its_first_characters_and_a_name_find_a_run(store: Store) -> None:
    first, second = make_run(store, "lstm, 4 units"), make_run(store, 'it\'s "mine"')
    for text in (first, first[:4] if first[:4] != second[:4] else first[:12], "lstm, 4 units"):
        assert find(store, text).info.run_id == first
    assert find(store, 'it\'s "mine"').info.run_id == second


def test_what_fits_no_run_or_several_is_refused(store: Store) -> None:
    run, other = make_run(store, "twin"), make_run(store, "twin")
    for text in (run[:3], "nobody", "", "%"):
        with pytest.raises(InputError, match="no run fits"):
            find(store, text)
    with pytest.raises(InputError, match="fits 2 runs") as refused:
        find(store, "twin")
    assert run[:8] in str(refused.value)
    assert other[:8] in str(refused.value)


def test_aliases_and_versions_find_the_run_of_a_registered_model(store: Store) -> None:
    with pytest.raises(InputError, match="no champion yet"):
        find(store, "champion")
    with pytest.raises(InputError, match="has no version 1; there are: none"):
        find(store, "v1")
    store.client.create_registered_model(MODEL)
    runs = [make_run(store, name) for name in ("a", "b")]
    for run in runs:
        logged = store.client.create_logged_model(store.experiment_id, "m", run)
        store.client.create_model_version(MODEL, logged.model_uri, run)
    store.set_alias(CHAMPION, "1")
    store.set_alias(CHALLENGER, "2")
    assert [find(store, text).info.run_id for text in ("champion", "v1", "challenger", "v2")] == [
        runs[0],
        runs[0],
        runs[1],
        runs[1],
    ]
    with pytest.raises(InputError, match="has no version 3; there are: v1, v2"):
        find(store, "v3")


def test_runs_come_newest_first(store: Store) -> None:
    runs = [make_run(store, str(start), start) for start in (20, 10, 30)]
    assert [run.info.run_id for run in store.runs()] == [runs[2], runs[0], runs[1]]
    assert [run.info.run_id for run in store.runs(limit=1)] == [runs[2]]


def test_a_store_that_fails_is_one_line_without_its_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    Path("nonsense.db").write_bytes(b"no database at all, but long enough for a page" * 99)
    for uri in (f"http://user:secret@127.0.0.1:{port}", f"sqlite:///{project.folder}/nonsense.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(InputError, match="MLFLOW_TRACKING_URI") as refused, open_store():
            pass
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    with pytest.raises(InputError, match="RNNLM_TRACKING"), open_store():
        pass
