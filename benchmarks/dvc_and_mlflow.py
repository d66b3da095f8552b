"""Two waits that users of DVC with MLflow complain of: `dvc repro` where nothing changed, and a long list of runs.

`python -m benchmarks.dvc_and_mlflow --json FILE` takes five minutes, most of them to lay out two projects of 100 cells.
Seconds are those of a processor, and imports are not counted. docs/performance.md explains the rows.
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.harness import Result, from_pairs, run
from pipeline.provenance.code import closure
from pipeline.review.listing import list_runs
from pipeline.review.tables import show_runs
from pipeline.runtime.settings import quieten_dvc
from pipeline.tracking.store import Store, connect
from tests.system.bare_dvc import dvc, graph, repro

TURNS = 3
Work = Callable[[], object]
HUNDRED_CELLS = {f"cell{number}": {"cell": "lstm", "hidden_size": number} for number in range(1, 101)}
LISTED_RUNS, METRICS_EACH, PARAMS_EACH = 3000, 30, 30
PROJECT = Path(__file__).parents[1]


def rows() -> Iterator[Result]:
    """What `dvc repro` takes to find that nothing is to be done, then what `rnnlm runs` takes."""
    import dvc.repo  # noqa: F401  (which lets its loggers speak)

    quieten_dvc()
    names = [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_", "RNNLM_"))]
    for name in names:
        del os.environ[name]
    with TemporaryDirectory() as here, TemporaryDirectory() as there:
        with chdir(here):
            graph(HUNDRED_CELLS)
        with chdir(there):
            graph(HUNDRED_CELLS)
            depend_on_source_files()

        def nothing_to_do(folder: str) -> None:
            with chdir(folder), redirect_stdout(io.StringIO()):
                if ran := repro():
                    raise RuntimeError(f"{ran} ran")

        pairs = taken(lambda: nothing_to_do(here), lambda: nothing_to_do(there))
        yield from_pairs(f"no_op_{len(HUNDRED_CELLS)}_cells", "source files in deps", pairs, 0, "ms")
    with TemporaryDirectory() as folder, chdir(folder):
        store = connect()
        fill(store)

        def ours() -> None:
            with redirect_stdout(io.StringIO()):
                show_runs(list_runs(store, store.runs()), wide=True)

        pairs = taken(ours, lambda: store.client.search_runs([store.experiment_id], max_results=LISTED_RUNS))
        yield from_pairs(f"list_{LISTED_RUNS}_runs", "MLflow's search, not shown", pairs, 0, "ms")


def taken(ours: Work, theirs: Work) -> list[tuple[float, float]]:
    """Seconds of a processor for each, in turn, after one call to warm up; both sides have one thread."""
    ours()
    theirs()
    return [(processor_seconds(ours), processor_seconds(theirs)) for _ in range(TURNS)]


def processor_seconds(work: Work) -> float:
    """How long one call works: waiting for a machine that others use, too, does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def depend_on_source_files() -> None:
    """Let each stage depend on the files of its code, as in DVC's own examples, and not on a file of their digests."""
    path = Path("dvc.yaml")
    content = yaml.safe_load(path.read_text())
    for name, stage in content["stages"].items():
        body = stage.get("do", stage)
        pins = f"data/pins/{name}.txt"
        if pins in body.get("deps", []):
            body["deps"].remove(pins)
            files = closure(name, PROJECT)
            body["deps"] += [f"code/{file}" for file in files]
            for file in files:
                Path("code", file).parent.mkdir(parents=True, exist_ok=True)
                Path("code", file).write_bytes((PROJECT / file).read_bytes())
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with dvc() as repo:
        repo.commit(force=True)


def fill(store: Store) -> None:
    """Write the runs into MLflow's tables: through its interface that would take minutes."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import insert

    ids = [f"{number:032x}" for number in range(LISTED_RUNS)]
    one = {"status": "FINISHED", "lifecycle_stage": "active", "source_type": "LOCAL", "user_id": "user"}
    one |= {"experiment_id": int(store.experiment_id), "source_name": "", "entry_point_name": "", "source_version": ""}
    tables: dict[Any, list[dict[str, Any]]] = {
        SqlRun: [
            one | {"run_uuid": id_, "name": f"run {number}", "start_time": number, "end_time": number}
            for number, id_ in enumerate(ids)
        ],
        SqlLatestMetric: [
            {"run_uuid": id_, "key": f"test/{key}", "value": key / 7, "timestamp": 0, "step": 0, "is_nan": False}
            for id_ in ids
            for key in range(METRICS_EACH)
        ],
        SqlParam: [
            {"run_uuid": id_, "key": f"model.{key}", "value": str((number * key) % 7)}
            for number, id_ in enumerate(ids)
            for key in range(PARAMS_EACH)
        ],
        SqlTag: [{"run_uuid": id_, "key": f"tag{key}", "value": "1"} for id_ in ids for key in range(12)],
    }
    engine: Any = store.client._tracking_client.store.engine
    with engine.begin() as connection:
        for table, values in tables.items():
            connection.execute(insert(table), values)


if __name__ == "__main__":
    run(rows)
