"""The runs in MLflow as rows for people and programs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.tracking.store import COMMIT, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORT_ID = 8  # characters of a run id that we show


@dataclass(frozen=True)
class ListedRun:
    """One run; what it does not have is None or empty."""

    run_id: str
    name: str  # such as `lstm, 100 units, 3 epochs`
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    start_time: datetime  # in UTC
    params: dict[str, str]
    metrics: dict[str, float | None]  # as `finite_metrics`
    tags: dict[str, str]  # of provenance: code, model, where the run comes from
    version: str | None  # of the registered model
    aliases: tuple[str, ...]  # of that version

    def as_json(self) -> dict[str, Any]:
        """The run for `--json`, its time in ISO 8601."""
        return vars(self) | {"start_time": self.start_time.isoformat(timespec="seconds")}


def list_runs(store: Store, runs: "Sequence[Run]") -> list[ListedRun]:
    """Runs as rows, in their order."""
    named = store.aliases()
    registered = {version.tags.get("model_digest"): str(version.version) for version in store.versions()}
    rows = []
    for run in runs:
        version = registered.get(run.data.tags.get("model_digest", ""))
        rows.append(
            ListedRun(
                run.info.run_id,
                run.info.run_name or "",
                run.info.status,
                datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                dict(run.data.params),
                finite_metrics(run),
                # Of MLflow's own tags, which are for its pages, only the commit says something about the run.
                {key: value for key, value in run.data.tags.items() if key == COMMIT or not key.startswith("mlflow.")},
                version,
                tuple(sorted(alias for alias, number in named.items() if number == version)),
            )
        )
    return rows


def finite_metrics(run: "Run") -> dict[str, float | None]:
    """The last value of each metric, sorted by name; None where it is not a finite number, which JSON cannot hold."""
    return {key: value if math.isfinite(value) else None for key, value in sorted(run.data.metrics.items())}


def differing(runs: Sequence[ListedRun]) -> list[str]:
    """The parameters with several values among the runs, in the runs' order.

    Runs without the parameter do not count: nobody knows the machine of a model that DVC restored.
    """
    keys = dict.fromkeys(key for run in runs for key in run.params)
    return [key for key in keys if len({run.params[key] for run in runs if key in run.params}) > 1]
