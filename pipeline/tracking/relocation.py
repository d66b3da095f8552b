"""Artifacts beside their database: a checkout that was moved or copied finds its own.

MLflow writes the absolute address of every artifact folder into its database, once and for all. A database in a file
keeps its artifacts in the folder `mlruns` beside it; where it lies elsewhere by now, its addresses are put right.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute

FOLDER = "mlruns"


def folder_beside(uri: str) -> Path | None:
    """Where a store keeps its artifacts: beside its SQLite file; None for any other store.

    Args:
        uri: of MLflow's store, such as `sqlite:////home/me/project/mlflow.db`.
    """
    from sqlalchemy.engine import make_url

    if not uri.startswith("sqlite:"):
        return None
    file = make_url(uri).database
    return Path(file).resolve().parent / FOLDER if file else None


def relocate(uri: str, recorded: str) -> bool:
    """Make the database at `uri` say where its artifacts lie now.

    Args:
        uri: of MLflow's store.
        recorded: the experiment's artifact location, as the database has it.

    Returns:
        Whether anything had to change.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from sqlalchemy import create_engine, func, literal, select, update

    now = folder_beside(uri)
    before = Path(local_file_uri_to_path(recorded))
    if now is None or before == now or before.name != FOLDER:
        return False
    engine = create_engine(uri)
    try:
        # One transaction: a process that is killed leaves no half of it.
        with engine.begin() as connection:
            addresses, runs = _address_columns()
            # Where the old folder is still there, this may be a copy, or a database that was kept apart on purpose.
            if before.is_dir() and not any((now / run).is_dir() for run in connection.execute(select(runs)).scalars()):
                return False
            for column in addresses:
                # MLflow keeps some addresses as URIs and some as paths.
                for old, new in ((before.as_uri(), now.as_uri()), (str(before), str(now))):
                    inside = func.substr(column.concat("/"), 1, len(old) + 1) == f"{old}/"
                    moved = literal(new).concat(func.substr(column, len(old) + 1))
                    table = update(column.class_)  # pyright: ignore[reportArgumentType]
                    connection.execute(table.where(inside).values({column.key: moved}))
    finally:
        engine.dispose()
    return True


def _address_columns() -> "tuple[tuple[InstrumentedAttribute[Any], ...], InstrumentedAttribute[Any]]":
    """The columns in which MLflow 3.17 keeps addresses of artifacts, and that of the runs' ids."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun, SqlTraceTag

    addresses = (
        SqlExperiment.artifact_location,
        SqlRun.artifact_uri,
        SqlLoggedModel.artifact_location,
        SqlModelVersion.source,
        SqlModelVersion.storage_location,
        SqlTraceTag.value,  # of the tag mlflow.artifactLocation
    )
    return addresses, SqlRun.run_uuid  # pyright: ignore[reportReturnType]
