"""`rnnlm backup` and `rnnlm restore`: MLflow's store as one file, whole even while runs are being written.

The store alone knows the champions, the way back to earlier ones and old runs; `rnnlm sync` rebuilds only what lies in
data/. The file is a plain tar:

    mlflow.db       a snapshot of the database, by SQLite's own online backup
    mlruns/...      the artifacts, copied after it, so that all that a finished run of the snapshot names is there
    manifest.json   what made it, and the SHA-256 of each other member; the last, so that a file cut short has none
"""

import hashlib
import json
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, scratch_folder, sync, write_text
from pipeline.runtime.locks import LOCKS, one_at_a_time
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stopping import heeded_signals, raise_if_stopped
from pipeline.runtime.urls import shown
from pipeline.tracking.relocation import ARTIFACTS, addresses_outside, database_file, database_uri, rewrite_addresses
from pipeline.tracking.store import Store, artifact_folder, open_store, tracking_uri

if TYPE_CHECKING:
    from io import BufferedReader

DATABASE, MANIFEST = "mlflow.db", "manifest.json"
BACKUP_FORMAT = 1
SETTLED_SECONDS = 1.0  # MLflow writes artifacts in place: one that changed just now may be half of itself
WRITTEN_TRIES = 30  # to find an artifact that nobody writes
LONGEST_MANIFEST = 1_000_000_000  # bytes
SIDES = ("-journal", "-wal", "-shm")  # of a database that its process left open


def back_up(file: Path) -> str:
    """Write the store to `file`, whole or not at all.

    Args:
        file: must not exist yet.

    Returns:
        What was done, on a line.

    Raises:
        InputError: the store is not in a file, `file` is there already, or an artifact is a link.
        OSError: the disk is full, say.
        StoppedError: a signal came; no backup was written.
    """
    database = _database()
    if not database.is_file():
        raise InputError(f"there is nothing to back up: {database} is not there")
    with open_store() as store:
        folder = _artifacts(store)
    if file.exists():
        raise InputError(f"{file} is there already; name a new file")
    if folder in file.resolve().parents:
        raise InputError(f"{file} would be among the artifacts that it is to hold; name a file elsewhere")
    manifest = {"rnnlm_backup": BACKUP_FORMAT, "mlflow": version("mlflow"), "artifacts": str(folder)}
    files: dict[str, dict[str, Any]] = {}
    gone = 0
    with heeded_signals(), store_lock(), atomic_path(file) as temporary, scratch_folder(file) as scratch:
        snapshot, copy = scratch / DATABASE, scratch / "copy"
        try:
            with _connected(database) as source, closing(sqlite3.connect(snapshot)) as target:
                source.backup(target)
                (manifest["schema"],) = target.execute("SELECT version_num FROM alembic_version").fetchone()
                rows = _rows(target)
        except sqlite3.Error as error:
            raise InputError(f"{database} cannot be copied ({error}); is there space beside {file}?") from None
        elsewhere = addresses_outside(database_uri(snapshot), folder)
        with tarfile.open(temporary, "w") as tar, progress_bar("backup", None, "bytes") as bar:
            files[DATABASE] = _add(tar, DATABASE, snapshot)
            for path in _files(folder):
                raise_if_stopped("no backup was written")
                if not _copy_settled(path, copy):
                    gone += 1
                    continue
                name = f"{ARTIFACTS}/{path.relative_to(folder).as_posix()}"
                files[name] = _add(tar, name, copy)
                bar.advance(files[name]["bytes"])
            path = scratch / MANIFEST
            write_text(path, json.dumps(manifest | {"files": files}, indent=1) + "\n")
            _add(tar, MANIFEST, path)
        size = temporary.stat().st_size
    told = [f"{file}: {rows} and {len(files) - 1} files, {size / 1e6:,.1f} MB"]
    told += [f"{gone} files were deleted meanwhile"] * bool(gone)
    told += [f"not in it are {elsewhere} artifact folders that lie elsewhere"] * bool(elsewhere)
    return "; ".join(told)


def restore_backup(file: Path) -> str:
    """Put back what `back_up` wrote, where no store is; all of `file` is checked before anything changes.

    The artifacts come to lie beside the database, wherever they were.

    Returns:
        What was done, on a line.

    Raises:
        InputError: a store is there, or the file is damaged, from elsewhere or of another version.
        OSError: the disk is full, say.
        StoppedError: a signal came; nothing was restored.
    """
    from sqlalchemy.exc import SQLAlchemyError

    database = _database()
    folder = database.parent / ARTIFACTS
    with heeded_signals(), store_lock():
        _refuse_to_replace(database, folder)
        manifest = _checked(file)
        before = Path(manifest["artifacts"])
        with scratch_folder(database) as scratch, _opened(file) as tar:
            for member in tar:
                raise_if_stopped("nothing was restored")
                tar.extract(member, scratch, filter="data")
            try:
                rewrite_addresses(database_uri(scratch / DATABASE), before, folder)
                with _connected(scratch / DATABASE) as connection:
                    rows = _rows(connection)
            except (SQLAlchemyError, sqlite3.Error) as error:
                raise InputError(
                    f"the database of {file} cannot be read ({error.args[0]}): nothing was restored"
                ) from None
            _refuse_to_replace(database, folder)  # a run may have begun meanwhile
            if (scratch / ARTIFACTS).is_dir():
                if folder.is_dir():
                    folder.rmdir()
                (scratch / ARTIFACTS).rename(folder)
            # The database comes last: without it nothing looks at the artifacts.
            sync(scratch / DATABASE)
            (scratch / DATABASE).replace(database)
            sync(database.parent)
    moved = f", which were in {before}" * (before != folder)
    return f"{rows} are back in {database}, and {len(manifest['files']) - 1} files in {folder}{moved}"


def store_lock() -> AbstractContextManager[None]:
    """Held by what copies, restores or cleans the whole store: one at a time.

    Raises:
        InputError: another has it.
    """
    taken = "another backup, restore or gc is at work in this folder; wait until it has ended"
    return one_at_a_time(LOCKS / "store.lock", taken)


def _database() -> Path:
    """The file of the store.

    Raises:
        InputError: it is in none.
    """
    uri = tracking_uri()
    if uri.startswith(("http:", "https:")):
        raise InputError(
            f"{shown(uri)} is a server, which nobody can restore from outside: where it runs, back up its database "
            "(`pg_dump`, say) and after that its artifacts"
        )
    file = database_file(uri)
    if file is None:
        raise InputError(
            f"{shown(uri)} is not an SQLite file: use that database's own tool, such as `pg_dump`, and copy the "
            "artifacts after that"
        )
    return file


def _artifacts(store: Store) -> Path:
    """The folder of the experiment's artifacts: beside the database, unless that was kept apart on purpose."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    recorded = Path(local_file_uri_to_path(store.client.get_experiment(store.experiment_id).artifact_location))
    return recorded if recorded.is_absolute() else artifact_folder()


@contextmanager
def _connected(database: Path) -> Iterator[sqlite3.Connection]:
    """The database, to read."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _rows(connection: sqlite3.Connection) -> str:
    runs, versions = (
        connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("runs", "model_versions")
    )
    return _told(runs, versions)


def _told(runs: int, versions: int) -> str:
    return f"{runs} runs and {versions} registered versions"


def _files(folder: Path) -> Iterator[Path]:
    """All files of a folder, in order; folders without files are none of MLflow's business.

    Raises:
        InputError: one is a link, which leads out of the backup.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"{path} is a link, which a backup does not follow; put the files themselves there")
        if path.is_file():
            yield path


def _copy_settled(path: Path, copy: Path) -> bool:
    """Copy a file as it is when nobody writes it; False where it has gone.

    Raises:
        InputError: it never rests.
    """
    for _ in range(WRITTEN_TRIES):
        try:
            before = path.stat()
            age = time.time() - before.st_mtime
            if 0 <= age < SETTLED_SECONDS:
                time.sleep(SETTLED_SECONDS - age)
                before = path.stat()
            shutil.copy2(path, copy)
            after = path.stat()
        except FileNotFoundError:
            return False
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            return True
    raise InputError(f"{path} changes all the time; stop what writes it, then back up again")


def _add(tar: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    """Add a file that nobody else knows; returns its entry of the manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        info = tarfile.TarInfo(name)
        info.size, info.mtime = path.stat().st_size, path.stat().st_mtime
        tar.addfile(info, file)
    return {"sha256": digest, "bytes": info.size}


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    """The tar; what is wrong with it until the block ends is one line."""
    try:
        with tarfile.open(file, "r:") as tar:
            yield tar
    except FileNotFoundError:
        raise InputError(f"{file} is not there; name what `rnnlm backup` wrote") from None
    except (IsADirectoryError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{file} is not a backup, or a damaged one: nothing was restored") from None


def _checked(file: Path) -> dict[str, Any]:
    """The manifest of a file of which every byte is as it was written, and every name where it may go.

    Raises:
        InputError: it is not such a file.
    """
    found: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    with _opened(file) as tar:
        for member in tar:
            raise_if_stopped("nothing was restored")
            name = PurePosixPath(member.name)
            inside = name.parts[0] == ARTIFACTS and len(name.parts) > 1 and ".." not in name.parts
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()  # of holes without end
            if manifest is not None or member.name in found or not plain:
                raise ValueError
            if not (inside or member.name in (DATABASE, MANIFEST)) or str(name) != member.name:
                raise ValueError
            content = tar.extractfile(member)
            assert content
            if member.name == MANIFEST:
                manifest = _parsed(content, member.size)
            else:
                found[member.name] = hashlib.file_digest(cast("BufferedReader", content), "sha256").hexdigest()
        if manifest is None or found != {name: entry["sha256"] for name, entry in manifest["files"].items()}:
            raise ValueError
        if DATABASE not in found or not isinstance(manifest["artifacts"], str):
            raise ValueError
    _check_schema(file, str(manifest["schema"]), str(manifest["mlflow"]))
    return manifest


def _parsed(content: IO[bytes], size: int) -> dict[str, Any]:
    if size > LONGEST_MANIFEST:
        raise ValueError
    manifest = json.loads(content.read())
    if manifest["rnnlm_backup"] != BACKUP_FORMAT:
        raise ValueError
    return manifest


def _check_schema(file: Path, schema: str, mlflow: str) -> None:
    """Refuse tables that the MLflow here does not know; those of an older one it knows how to upgrade."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    if schema not in {script.revision for script in scripts.walk_revisions()}:
        raise InputError(
            f"{file} is of MLflow {mlflow}, whose tables the MLflow here does not know; install that version"
        )


def _refuse_to_replace(database: Path, folder: Path) -> None:
    """Only nothing, or the empty tables that MLflow makes when it is first asked, may be in the way.

    Raises:
        InputError: something else is.
    """
    for name in (database.with_name(database.name + side) for side in SIDES):
        if name.exists():
            raise InputError(f"{name} is there, so some process has the store open or was killed; end it or delete it")
    if database.exists():
        try:
            with _connected(database) as connection:
                empty = _rows(connection) == _told(0, 0)
        except sqlite3.Error:
            empty = database.stat().st_size == 0
        if not empty:
            raise InputError(f"{database} is there and not empty; move it away, or name another in MLFLOW_TRACKING_URI")
    if folder.is_symlink():
        raise InputError(
            f"{folder} is a link, in whose place a restore puts a folder; take it away, and put it back then"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is there and not empty, which also a restore that was killed leaves; move it away or delete it"
        )
