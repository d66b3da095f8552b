"""Artifacts beside their database: `rnnlm relocate` puts addresses right after a checkout was moved or copied.

MLflow writes the absolute address of every artifact folder into its database and has no command that changes it. A
database in a file keeps its artifacts in the folder `mlruns` beside it.
"""

import atexit
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute

ARTIFACTS = "mlruns"


def database_uri(file: Path) -> str:
    """The address of a database in a file, whose folder may have any name: Jenkins makes some such as `feature%2Fx`."""
    return f"sqlite:///{quote(str(file))}"


def clear_folder_as_written(uri: str) -> None:
    """Remove, when this process ends, the folder that MLflow makes for a database, its address taken literally.

    MLflow decodes `%2F` and the like when it opens the database, but not when it makes its folder, which stays empty.
    """
    written = Path(uri.removeprefix("sqlite:///")).parent
    if uri.startswith("sqlite:") and "%" in uri and not written.exists():

        def clear() -> None:
            with suppress(OSError):  # something has been put in, or MLflow made none
                written.rmdir()

        atexit.register(clear)


def database_file(uri: str) -> Path | None:
    """The file of a store such as `sqlite:////home/me/project/mlflow.db`; None if it is in none."""
    from sqlalchemy.engine import make_url

    file = make_url(uri).database if uri.startswith("sqlite:") else None
    return None if file in (None, "", ":memory:") else Path(file).resolve()


def is_sqlite(file: Path) -> bool:
    """Whether a file is a SQLite database, or empty, as one may become: MLflow would try others for 101 seconds."""
    with file.open("rb") as opened:
        return opened.read(16) in (b"", b"SQLite format 3\0")


def folder_beside(uri: str) -> Path | None:
    """Where a store in a file keeps its artifacts; None if it is in none."""
    file = database_file(uri)
    return file and file.parent / ARTIFACTS


def moved_from(uri: str, recorded: str) -> Path | None:
    """The folder in which a database that has moved still looks for its artifacts; None if its addresses are right.

    `uri` is that of the store, `recorded` the experiment's artifact location, as the database has it.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from sqlalchemy import create_engine, select

    now = folder_beside(uri)
    before = Path(local_file_uri_to_path(recorded))
    if now is None or before == now or before.name != ARTIFACTS:
        return None
    if before.is_dir():
        from mlflow.store.tracking.dbmodels.models import SqlRun

        # A copy has artifacts of its own; a database that was kept apart on purpose has none beside it.
        engine = create_engine(uri)
        with engine.connect() as connection:
            runs = connection.execute(select(SqlRun.run_uuid)).scalars().all()
        engine.dispose()
        if not any((now / run).is_dir() for run in runs):
            return None
    return before


def relocate(uri: str, recorded: str) -> str:
    """Make the database say where its artifacts are now; takes what `moved_from` takes, and says what was done."""
    now, before = folder_beside(uri), moved_from(uri, recorded)
    if now is None:
        return "nothing to do: only a database in a file keeps its artifacts beside it"
    if before is None:
        return f"nothing to do: the artifacts are where the database looks for them, in {recorded}"
    count = rewrite_addresses(uri, before, now)
    return f"{count} addresses in the database now start with {now} instead of {before}"


def rewrite_addresses(uri: str, before: Path, now: Path) -> int:
    """Make a database say `now` where it says `before`; returns how many addresses that were."""
    from sqlalchemy import create_engine, func, literal, update

    count, engine = 0, create_engine(uri)
    # One transaction: a process that is killed leaves no half of it.
    with engine.begin() as connection:
        for column in _address_columns():
            # MLflow keeps some addresses as URIs and some as paths.
            for old, new in ((before.as_uri(), now.as_uri()), (str(before), str(now))):
                inside = func.substr(column.concat("/"), 1, len(old) + 1) == f"{old}/"
                moved = literal(new).concat(func.substr(column, len(old) + 1))
                table = update(column.class_)  # pyrefly: ignore[bad-argument-type]
                count += connection.execute(table.where(inside).values({column.key: moved})).rowcount
    engine.dispose()
    return count


def addresses_outside(uri: str, folder: Path) -> int:
    """How many folders of runs and models a database has in other places than inside `folder`."""
    from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun
    from mlflow.utils.file_utils import local_file_uri_to_path
    from sqlalchemy import create_engine, select

    engine = create_engine(uri)
    with engine.connect() as connection:
        columns = (SqlRun.artifact_uri, SqlLoggedModel.artifact_location)
        found = [address for column in columns for address in connection.execute(select(column)).scalars()]
    engine.dispose()
    return sum(not Path(local_file_uri_to_path(address or "")).is_relative_to(folder) for address in found)


def _address_columns() -> "tuple[InstrumentedAttribute[Any], ...]":
    """The columns in which MLflow 3.17 keeps addresses of artifacts."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun, SqlTraceTag

    return (
        SqlExperiment.artifact_location,
        SqlRun.artifact_uri,
        SqlLoggedModel.artifact_location,
        SqlModelVersion.source,
        SqlModelVersion.storage_location,
        SqlTraceTag.value,  # of the tag mlflow.artifactLocation
    )
