"""The runs of the experiment as rows: what a list of them shows, for people and for programs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.review.lookup import all_runs
from pipeline.tracking.registry import aliases, versions
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

# MLflow's own tags tell of its pages; this one tells of the code.
COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class ListedRun:
    """One run; what it does not have is None or empty.

    Attributes:
        run_id: of MLflow.
        name: such as `lstm, 100 units, 3 epochs`.
        status: RUNNING, FINISHED, FAILED or KILLED.
        start_time: in UTC.
        params: as MLflow has them.
        metrics: the last value of each; one that is not finite is None.
        tags: of provenance: code, model, how it came here.
        version: of the registered model.
        aliases: of that version.
    """

    run_id: str
    name: str
    status: str
    start_time: datetime
    params: dict[str, str]
    metrics: dict[str, float | None]
    tags: dict[str, str]
    version: str | None
    aliases: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The run for `--json`; the time is ISO 8601."""
        return {
            **vars(self),
            "start_time": self.start_time.isoformat(timespec="seconds"),
            "aliases": list(self.aliases),
        }


def list_runs(store: Store, limit: int | None = None) -> list[ListedRun]:
    """The newest `limit` runs, or all, the newest first."""
    return _listed(store, all_runs(store, limit))


def listed_run(store: Store, run: "Run") -> ListedRun:
    """One run as a row."""
    return _listed(store, [run])[0]


def _listed(store: Store, runs: "list[Run]") -> list[ListedRun]:
    named = aliases(store)
    registered = {version.tags.get("model_digest"): str(version.version) for version in versions(store)}
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
                {key: value if math.isfinite(value) else None for key, value in sorted(run.data.metrics.items())},
                {key: value for key, value in run.data.tags.items() if key == COMMIT or not key.startswith("mlflow.")},
                version,
                tuple(sorted(alias for alias, number in named.items() if number == version)),
            )
        )
    return rows


def differing(runs: Sequence[ListedRun]) -> list[str]:
    """The parameters that have several values among the runs, in the order in which the runs have them.

    A run without the parameter counts for nothing: of a model that DVC restored, nobody knows the machine.
    """
    keys = dict.fromkeys(key for run in runs for key in run.params)
    return [key for key in keys if len({run.params[key] for run in runs if key in run.params}) > 1]
