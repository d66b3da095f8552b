"""Which runs there are, as rows for people and for programs, and which of them a person means."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import InputError
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

# MLflow's own tags tell of its pages; this one tells of the code.
COMMIT = "mlflow.source.git.commit"
SHORTEST_ID = 4  # characters that an abbreviated run id has at least
SHORT_ID = 8  # characters that we show of one
LISTED = 5  # runs that a message names
WAYS = "an id or its first characters, a name, champion, challenger, or a version such as v3; `rnnlm runs` lists them"


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
    return _listed(store, store.runs(limit))


def listed_run(store: Store, run: "Run") -> ListedRun:
    """One run as a row."""
    return _listed(store, [run])[0]


def _listed(store: Store, runs: "list[Run]") -> list[ListedRun]:
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


def find(store: Store, text: str) -> "Run":
    """The run that `text` names.

    Args:
        store: an open store.
        text: a run's id or the first characters of it (`SHORTEST_ID` at least), its name, `champion`, `challenger`, or
            a version of the registered model, such as `v3`.

    Raises:
        InputError: no run fits, or several do.
    """
    if text in (CHAMPION, CHALLENGER) or re.fullmatch(r"v\d+", text):
        return store.run(_run_of_version(store, text))
    runs = store.runs()
    exact = [run for run in runs if run.info.run_id == text]
    fitting = exact or [run for run in runs if run.info.run_name == text or _abbreviates(text, run.info.run_id)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise InputError(f"no run fits {text!r}; name one by {WAYS}")
    shown = ", ".join(f"{run.info.run_id[:SHORT_ID]} ({run.info.run_name})" for run in fitting[:LISTED])
    more = ", ..." if len(fitting) > LISTED else ""
    raise InputError(f"{text!r} fits {len(fitting)} runs: {shown}{more}; name one by more characters of its id")


def _abbreviates(text: str, run_id: str) -> bool:
    return len(text) >= SHORTEST_ID and run_id.startswith(text)


def _run_of_version(store: Store, text: str) -> str:
    number = store.aliases().get(text) if text in (CHAMPION, CHALLENGER) else str(int(text[1:]))
    if number is None:
        raise InputError(f"there is no {text} yet; `rnnlm promote` makes the best model of the pipeline the champion")
    known = store.versions()
    for version in known:
        if str(version.version) == number and version.run_id:
            return version.run_id
    there = ", ".join(f"v{version.version}" for version in known) or "none"
    raise InputError(f"the registered model {MODEL} has no version {number}; there are: {there}")
