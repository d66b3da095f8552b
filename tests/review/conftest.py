"""A store without a run, and a way to begin one."""

import pytest

from pipeline.tracking.store import Store, connect
from tests.projects import Project


@pytest.fixture
def store(project: Project) -> Store:
    return connect()


def make_run(store: Store, name: str, start: int = 0) -> str:
    return store.client.create_run(store.experiment_id, start_time=start, run_name=name).info.run_id
