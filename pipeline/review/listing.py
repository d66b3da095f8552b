"""The runs in MLflow as rows for people and programs, and the run that a user means by a name."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import InputError
from pipeline.tracking.store import CHALLENGER, CHAMPION, COMMIT, MODEL, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORTEST_ID = 4  # characters of an abbreviated run id
SHORT_ID = 8  # characters of a run id that we show
NAMED_RUNS = 5  # runs that a message names
WAYS = "an id or its first characters, a name, champion, challenger, or a version such as v3; `rnnlm runs` lists them"


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


def find(store: Store, text: str) -> "Run":
    """The run that `text` names.

    That is its id or the first `SHORTEST_ID` or more characters of it, its name, `champion`, `challenger`, or a version
    of the registered model, such as `v3`.

    Raises:
        InputError: no run fits, or several do.
    """
    if text in (CHAMPION, CHALLENGER) or re.fullmatch(r"v\d+", text):
        return store.run(_run_of_version(store, text))
    runs = store.runs()
    fitting = [run for run in runs if run.info.run_id == text] or [
        run
        for run in runs
        if run.info.run_name == text or (len(text) >= SHORTEST_ID and run.info.run_id.startswith(text))
    ]
    if len(fitting) == 1:
        return store.run(fitting[0].info.run_id)
    if not fitting:
        raise InputError(f"no run fits {text!r}; give {WAYS}")
    shown = ", ".join(f"{run.info.run_id[:SHORT_ID]} ({run.info.run_name})" for run in fitting[:NAMED_RUNS])
    more = ", ..." if len(fitting) > NAMED_RUNS else ""
    raise InputError(f"{text!r} fits {len(fitting)} runs: {shown}{more}; give more characters of its id")


def _run_of_version(store: Store, text: str) -> str:
    number = store.aliases().get(text) if text in (CHAMPION, CHALLENGER) else str(int(text[1:]))
    if number is None:
        raise InputError(f"there is no {text} yet; `rnnlm promote` makes the best model of the pipeline the champion")
    known = {str(version.version): version.run_id for version in store.versions()}
    if run_id := known.get(number):
        return run_id
    there = ", ".join(f"v{version}" for version in known) or "none"
    raise InputError(f"the registered model {MODEL} has no version {number}; there are: {there}")
