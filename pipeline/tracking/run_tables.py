"""All runs of an experiment from MLflow's own tables, each read once.

MLflow's search makes an object of its database layer for every metric, parameter and tag: 3,000 runs with 30 metrics
each take it several seconds. What a run has read and made, MLflow says of one run at a time.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import Engine


def read_runs(engine: "Engine", experiment_id: str, limit: int | None = None) -> "list[Run]":
    """The runs that MLflow's search finds, the newest first, without their datasets and models.

    `engine` is that of MLflow's database; at most `limit` runs are read. Raises what SQLAlchemy raises.
    """
    from mlflow.entities import LifecycleStage, Metric, Param, Run, RunData, RunInfo, RunTag
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import select

    info = (SqlRun.user_id, SqlRun.status, SqlRun.start_time, SqlRun.end_time, SqlRun.artifact_uri, SqlRun.name)
    found = select(SqlRun.run_uuid, *info).where(
        SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == LifecycleStage.ACTIVE
    )
    found = found.order_by(SqlRun.start_time.desc(), SqlRun.run_uuid).limit(limit)
    wanted = select(found.subquery().c.run_uuid)
    value = (SqlLatestMetric.key, SqlLatestMetric.value, SqlLatestMetric.timestamp, SqlLatestMetric.step)
    tables: dict[Any, Any] = {
        Metric: (SqlLatestMetric.run_uuid, *value, SqlLatestMetric.is_nan),
        Param: (SqlParam.run_uuid, SqlParam.key, SqlParam.value),
        RunTag: (SqlTag.run_uuid, SqlTag.key, SqlTag.value),
    }
    parts: dict[Any, Any] = {kind: defaultdict(list) for kind in tables}
    # One transaction, so that all of it is from one moment.
    with engine.connect() as connection:
        runs = connection.execute(found).all()
        for kind, columns in tables.items():
            rows = connection.execute(select(*columns).where(columns[0].in_(wanted)))
            for run_id, *fields in rows:
                if kind is Metric and fields.pop():
                    fields[1] = float("nan")  # the database has a number in its place
                parts[kind][run_id].append(kind(*fields))
    return [
        Run(
            RunInfo(run_id, experiment_id, user, status, start, end, LifecycleStage.ACTIVE, artifacts, run_name=name),
            RunData(*(of_kind[run_id] for of_kind in parts.values())),
        )
        for run_id, user, status, start, end, artifacts, name in runs
    ]
