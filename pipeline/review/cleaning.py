"""`rnnlm gc`: what nobody needs any more, found before anything is freed.

Only what this project has made and can name is ever looked at, and nothing younger than a number of days: neither a
training run under way nor its results, which no commit names yet. docs/tracking.md has the rules.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.model.folder import model_digest
from pipeline.provenance import git
from pipeline.provenance.cache import free_objects, unused_objects
from pipeline.review.promotion import ROLLED_BACK, former_champions
from pipeline.review.reproduce import REPRODUCTIONS
from pipeline.review.ui import UI_LOG
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODELS, seed_folders
from pipeline.text.sources.fetch import DOWNLOADS
from pipeline.tracking.record import read_provenance
from pipeline.tracking.relocation import folder_beside
from pipeline.tracking.runs import REMOVED
from pipeline.tracking.store import MODEL, Store, tracking_uri
from pipeline.training.checkpoint import CHECKPOINTS
from pipeline.training.trained import TRAINED
from pipeline.tuning.sweep import SWEEPS

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

DAY = 86400.0


@dataclass(frozen=True)
class Leftover:
    """Something that can be freed.

    Attributes:
        kind: what it is, in the plural.
        paths: files or folders.
        free: frees them, and whatever names them, unless somebody needs them by now.
    """

    kind: str
    paths: tuple[Path, ...]
    free: Callable[[], None]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(_size, self.paths))


def leftovers(store: Store, days: float) -> list[Leftover]:
    """All that may go, and that is older than `days`; nothing is changed.

    Raises:
        InputError: the record of a run is damaged, or DVC cannot say what it needs.
    """
    before = time.time() - days * DAY
    return [*_of_mlflow(store, before), *_of_dvc(store, before), *_of_the_folder(before)]


def _of_mlflow(store: Store, before: float) -> Iterator[Leftover]:
    """Models that are no candidates for anything, and runs that somebody has deleted."""
    from mlflow.entities import ViewType

    root = folder_beside(tracking_uri())
    if root is None:
        return  # a server's files are the business of whoever runs it
    kept = _kept_models(store)
    everything = store.client.search_runs([store.experiment_id], run_view_type=ViewType.ALL, max_results=50_000)
    for run in everything:
        ended = (run.info.end_time or run.info.start_time) / 1000
        deleted = run.info.lifecycle_stage == "deleted"
        if run.data.tags.get("model_digest") in kept or ended >= before or run.info.status == "RUNNING":
            continue
        for output in run.outputs.model_outputs if run.outputs else []:
            model = _logged_model(store, output.model_id)
            folder = _inside(model.artifact_location, root) if model else None
            if model and folder:
                yield Leftover("models in MLflow", (folder,), _remover_of_model(store, run, model))
        folder = _inside(run.info.artifact_uri, root)
        if deleted and folder and run.info.run_id in _deleted_before(store, before):
            yield Leftover("deleted runs in MLflow", (folder,), _remover_of_run(store, run))


def _kept_models(store: Store) -> set[str]:
    """Digests of models that have an alias, were champion, or lie in data/."""
    versions = store.versions()
    ranked = {*store.aliases().values(), *(former_champions(store) if versions else ())}
    kept = {
        version.tags.get("model_digest", "")
        for version in versions
        if str(version.version) in ranked or version.tags.get(ROLLED_BACK)
    }
    for folder in (folder for cell in MODELS.glob("*") for folder in seed_folders(cell)):
        try:
            kept.add(model_digest(folder))
        except (InputError, OSError):
            continue  # half a model, which no run has
    return kept


def _logged_model(store: Store, model_id: str) -> "LoggedModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _deleted_before(store: Store, before: float) -> set[str]:
    return set(_database(store)._get_deleted_runs(older_than=int((time.time() - before) * 1000)))


def _remover_of_model(store: Store, run: "Run", model: "LoggedModel") -> Callable[[], None]:
    """Takes away first what names the files: a process that is killed leaves nothing that names none."""

    def free() -> None:
        digest = run.data.tags.get("model_digest")
        if digest in _kept_models(store):
            return  # by now: others may work with the store
        version = store.version_of(digest) if digest else None
        if version is not None and f"{version.run_id}" == run.info.run_id:
            store.client.delete_model_version(MODEL, str(version.version))
        if digest and run.info.lifecycle_stage == "active":
            store.tag(run.info.run_id, **{REMOVED: digest})
            # Without it `rnnlm sync` knows that the model, should it lie in data/ again, is not in MLflow.
            store.client.delete_tag(run.info.run_id, "model_digest")
        store.client.delete_logged_model(model.model_id)
        _remove_artifacts(model.artifact_location)
        _database(store)._hard_delete_logged_model(model.model_id)

    return free


def _remover_of_run(store: Store, run: "Run") -> Callable[[], None]:
    def free() -> None:
        _remove_artifacts(run.info.artifact_uri)
        _database(store)._hard_delete_run(run.info.run_id)

    return free


def _database(store: Store) -> "SqlAlchemyStore":
    """What `mlflow gc` calls, which itself would also remove other experiments that somebody has deleted."""
    return store.client._tracking_client.store


def _of_dvc(store: Store, before: float) -> Iterator[Leftover]:
    """What no commit, no experiment and no run of MLflow names."""
    if paths := tuple(unused_objects(_named_by_runs(store), before)):
        yield Leftover("files in DVC's cache", paths, lambda: free_objects(paths, _named_by_runs(store)))


def _named_by_runs(store: Store) -> set[str]:
    """The hashes in the records of all runs that are not deleted, or whose model is kept."""
    from mlflow.entities import ViewType

    named: set[str] = set()
    kept = _kept_models(store)
    deleted = store.client.search_runs([store.experiment_id], run_view_type=ViewType.DELETED_ONLY, max_results=50_000)
    for run in (*store.runs(), *(run for run in deleted if run.data.tags.get("model_digest") in kept)):
        provenance = read_provenance(store, run.info.run_id)
        for record in provenance.stages.values() if provenance else ():
            named |= {digest for digest in (*record.deps.values(), *record.outs.values()) if digest}
    return named


def _of_the_folder(before: float) -> Iterator[Leftover]:
    """Under .rnnlm/."""
    places = (
        ("unfinished training runs", CHECKPOINTS.glob("*/*")),
        ("sweeps", SWEEPS.glob("*")),
        ("copies of trained models", TRAINED.glob("*/*")),
        ("copies of what was downloaded", DOWNLOADS.glob("*")),
        ("logs", [UI_LOG] if UI_LOG.exists() else []),
    )
    for kind, paths in places:
        for path in sorted(paths):
            if _changed(path) < before:
                yield Leftover(kind, (path,), lambda path=path: _remove(path))

    worktrees = (("what a killed `rnnlm reproduce` left", REPRODUCTIONS), ("models of recipes", git.RECIPE_RUNS))
    for kind, folder in worktrees:
        for path in sorted(path for path in folder.glob("*") if path.is_dir()):
            if _changed(path) < before:
                yield Leftover(kind, (path,), lambda path=path: _remove_worktree(path))


def _remove_worktree(path: Path) -> None:
    from filelock import FileLock, Timeout

    with suppress(Timeout), FileLock(f"{path}.lock").acquire(timeout=0):  # else it is at work after all
        if not git.worker_in(path):
            git.remove_worktree(path.resolve())


def _changed(path: Path) -> float:
    """When anything in it last changed, in seconds since 1970."""
    return max((inner.lstat().st_mtime for inner in (path, *path.rglob("*"))), default=0.0)


def _size(path: Path) -> int:
    return sum(
        inner.lstat().st_size for inner in (path, *path.rglob("*")) if inner.is_file() and not inner.is_symlink()
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_artifacts(address: str | None) -> None:
    """Remove a folder `artifacts` of MLflow, and the one around it, which has the id as its name."""
    folder = _path(address)
    _remove(folder)
    with suppress(OSError):  # it holds something else
        folder.parent.rmdir()


def _path(address: str | None) -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(address or ""))


def _inside(address: str | None, root: Path) -> Path | None:
    """The folder of an address, if it is one of the project's own."""
    path = _path(address)
    return path if path.is_absolute() and root in path.resolve().parents else None


def in_words(found: list[Leftover]) -> list[str]:
    """A line for each kind: how many, and how much."""
    kinds = dict.fromkeys(item.kind for item in found)
    groups = {kind: [item for item in found if item.kind == kind] for kind in kinds}
    lines = [
        f"{size_in_words(sum(item.size for item in items)):>9}  {sum(len(item.paths) for item in items)} {kind}"
        for kind, items in groups.items()
    ]
    return [*lines, f"{size_in_words(sum(item.size for item in found)):>9}  in all"]


def size_in_words(size: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
