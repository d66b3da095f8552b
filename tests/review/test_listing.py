"""The runs in MLflow as rows."""

import socket
from pathlib import Path

import pytest

from pipeline.runtime.errors import InputError
from pipeline.tracking.store import Store, open_store
from tests.projects import Project
from tests.review.conftest import make_run


def test_runs_come_newest_first(store: Store) -> None:
    runs = [make_run(store, str(start), start) for start in (20, 10, 30)]
    assert [run.info.run_id for run in store.runs()] == [runs[2], runs[0], runs[1]]
    assert [run.info.run_id for run in store.runs(limit=1)] == [runs[2]]


def test_a_store_that_fails_is_one_line_without_its_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    Path("nonsense.db").write_bytes(b"no database at all, but long enough for a page" * 99)
    server, file = f"http://user:secret@127.0.0.1:{port}", f"sqlite:///{project.folder}/nonsense.db"
    # MLflow itself would try ten times to open the file, for 101 seconds.
    for uri, why in ((server, "MLflow failed .*is MLFLOW_TRACKING_URI"), (file, "^MLFLOW_TRACKING_URI .*not a SQLite")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(InputError, match=why) as refused, open_store():
            pass
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    with pytest.raises(InputError, match="RNNLM_TRACKING"), open_store():
        pass
