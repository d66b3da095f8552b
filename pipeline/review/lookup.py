"""Which run a person means."""

import re
from typing import TYPE_CHECKING

from pipeline.runtime.errors import InputError
from pipeline.tracking.registry import CHALLENGER, CHAMPION, MODEL, aliases, versions
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORTEST_ID = 4  # characters that an abbreviated run id has at least
SHORT_ID = 8  # characters that we show of one
LISTED = 5  # runs that a message names
WAYS = "an id or its first characters, a name, champion, challenger, or a version such as v3; `rnnlm runs` lists them"


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
        return store.client.get_run(_run_of_version(store, text))
    runs = all_runs(store)
    exact = [run for run in runs if run.info.run_id == text]
    fitting = exact or [run for run in runs if run.info.run_name == text or _abbreviates(text, run.info.run_id)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise InputError(f"no run fits {text!r}; name one by {WAYS}")
    shown = ", ".join(f"{run.info.run_id[:SHORT_ID]} ({run.info.run_name})" for run in fitting[:LISTED])
    more = ", ..." if len(fitting) > LISTED else ""
    raise InputError(f"{text!r} fits {len(fitting)} runs: {shown}{more}; name one by more characters of its id")


def all_runs(store: Store, limit: int | None = None) -> "list[Run]":
    """The runs of the experiment, the newest first; at most `limit` of them."""
    found: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs(
            [store.experiment_id], order_by=["attributes.start_time DESC"], max_results=1000, page_token=token
        )
        found += page
        token = page.token
        if not token or (limit is not None and len(found) >= limit):
            return found[:limit]


def _abbreviates(text: str, run_id: str) -> bool:
    return len(text) >= SHORTEST_ID and run_id.startswith(text)


def _run_of_version(store: Store, text: str) -> str:
    number = aliases(store).get(text) if text in (CHAMPION, CHALLENGER) else str(int(text[1:]))
    if number is None:
        raise InputError(f"there is no {text} yet; `rnnlm promote` makes the best model of the pipeline the champion")
    known = versions(store)
    for version in known:
        if str(version.version) == number and version.run_id:
            return version.run_id
    there = ", ".join(f"v{version.version}" for version in known) or "none"
    raise InputError(f"the registered model {MODEL} has no version {number}; there are: {there}")
