"""The registered model `rnnlm`: a version of it for each model that was evaluated, and the names that versions bear.

`challenger` is the version that is best on the validation split of the last run of the pipeline; `champion` the one in
use, which only promotion.py moves.
"""

from typing import TYPE_CHECKING, Literal

from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger"]
MODEL = "rnnlm"
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"


def aliases(store: Store) -> dict[str, str]:
    """The version that each alias names; empty where nothing is registered."""
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_registered_model(MODEL).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: str(version) for alias, version in found.items()}


def versions(store: Store, query: str = "") -> "list[ModelVersion]":
    """The registered versions, the oldest first; their `aliases` are always empty, see `aliases`.

    Args:
        store: an open store.
        query: what else they must fit, in the words of MLflow's search, such as `tags.cell = 'lstm'`.
    """
    found, token = [], None
    while True:
        words = f"name = '{MODEL}'" + (f" and {query}" if query else "")
        page = store.client.search_model_versions(words, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))
