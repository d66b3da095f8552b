"""The artifact provenance/ of a run: which code, which data and which packages its stages read, and what they wrote.

    provenance.json   commit, whether it was changed, files left out of the patch, and a record of each stage
    changes.patch     what was changed since the commit, for `git apply`; absent where nothing was
    packages.txt      every installed package with its version

Hashes are DVC's, so what a run read can be fetched from DVC's cache or a remote (pipeline/review/reproduce.py).
"""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

from pipeline.params import CellParams
from pipeline.provenance.dvc import StageRecord, digest_if_there, read_lock, stage_record
from pipeline.provenance.environment import packages
from pipeline.provenance.git import Changes, changed_inputs, changes, commit_of
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import EVALUATION, MODELS, SEEDS_FOLDER
from pipeline.runtime.urls import masked, shown
from pipeline.tracking.store import COMMIT, Store

PROVENANCE_FOLDER, PROVENANCE_FILE, PATCH, PACKAGES = "provenance", "provenance.json", "changes.patch", "packages.txt"
INCOMPLETE = "provenance_incomplete"  # a tag of a run: why its record does not explain it
LONGEST_TAG = 500  # characters of a list of changed files


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What provenance.json holds.

    Attributes:
        commit: of git; None where it is not known.
        left_out: as in `Changes`.
        stages: by their names in dvc.yaml, without the cell's.
        incomplete: as in `Changes`.
    """

    commit: str | None
    left_out: dict[str, str | None]
    stages: dict[str, StageRecord]
    incomplete: str = ""


def code_tags() -> dict[str, str]:
    """Tags that name the code: git commit, whether and where it was changed since, DVC experiment."""
    tags = {}
    commit = commit_of("HEAD")
    if commit:
        changed = changed_inputs()
        tags |= {COMMIT: commit, "git_dirty": "true" if changed else "false"}
        if changed:
            tags["git_changed_files"] = ", ".join(changed)[:LONGEST_TAG]
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        tags["dvc_experiment"] = experiment
    return tags


def record_training(store: Store, run_id: str, cell: str) -> None:
    """Log what the training run that starts now is made from."""
    # What may lie at its outputs is another training's.
    _begin(store, run_id, dataclasses.replace(stage_record(f"train@{cell}"), outs={}), this_code=True)
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / PACKAGES, packages())
        store.client.log_artifacts(run_id, folder, PROVENANCE_FOLDER)


def record_restored(store: Store, run_id: str, cell: CellParams, this_code: bool) -> None:
    """Log what dvc.lock knows about a training run that was not seen.

    Args:
        run_id: the run made for it.
        cell: that of its seed.
        this_code: `lock_is_current` of it; else nobody knows by which commit it was made.
    """
    train = _locked_records().get(f"train@{cell.name}")
    if train is not None:
        _begin(store, run_id, _of_seed(train, cell), this_code)


def lock_is_current(cell: str) -> bool:
    """Whether the training that dvc.lock tells of read just what lies here now, so that today's commit explains it."""
    locked = _locked_records().get(f"train@{cell}")
    return locked is not None and locked.deps == stage_record(f"train@{cell}").deps


def record_outputs(store: Store, run_id: str, stage: Literal["train", "evaluate"], cell: CellParams) -> None:
    """Add to a run's record what a stage that has just ended wrote; and read, unless that is known from its start."""
    known = read_provenance(store, run_id)
    if known is None:
        return  # of an older version, or its start was missed: half a record could mislead
    now, before = _of_seed(stage_record(f"{stage}@{cell.name}"), cell), known.stages.get(stage)
    record = now if before is None or stage != "train" else dataclasses.replace(before, outs=now.outs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PROVENANCE_FILE
        _write(path, dataclasses.replace(known, stages=known.stages | {stage: record}))
        store.client.log_artifact(run_id, str(path), PROVENANCE_FOLDER)


def read_provenance(store: Store, run_id: str) -> Provenance | None:
    """What a run's provenance.json holds; None where it has none.

    Raises:
        InputError: it is there, but damaged.
    """
    text = read_artifact(store, run_id, PROVENANCE_FILE)
    if text is None:
        return None
    try:
        content = json.loads(text)
        stages = {name: StageRecord(**record) for name, record in content.pop("stages").items()}
        return Provenance(stages=stages, **content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"run {run_id}: its artifact {PROVENANCE_FOLDER}/{PROVENANCE_FILE} is damaged, so it cannot be explained"
        ) from None


def read_artifact(store: Store, run_id: str, name: str) -> bytes | None:
    """A file of a run's artifact folder provenance/; None where it is not there."""
    return store.read_file(run_id, f"{PROVENANCE_FOLDER}/{name}")


def _of_seed(record: StageRecord, cell: CellParams) -> StageRecord:
    """A record of a stage that reads or makes the models of all seeds, without what belongs to others than this one."""

    def own(paths: dict[str, str | None]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name, digest in paths.items():
            path = Path(name)
            root = path.parents[1] if path.parents[0] in (MODELS / cell.name, EVALUATION / cell.name) else None
            # The first seed's metrics.json has figures of all seeds, where there are several.
            of_all = path.name == SEEDS_FOLDER or (path.name == "metrics.json" and cell.seeds > 1)
            if root is None or (cell.first and not of_all):
                found[name] = digest
            elif path.name == SEEDS_FOLDER and not cell.first:
                files = sorted(file for file in (root / cell.folder).glob("*") if file.is_file())
                found |= {file.as_posix(): digest_if_there(file) for file in files}
        return found

    return dataclasses.replace(record, deps=own(record.deps), outs=own(record.outs))


def _begin(store: Store, run_id: str, train: StageRecord, this_code: bool) -> None:
    changed = changes() if this_code else Changes()
    commit = commit_of("HEAD") if this_code else None
    if changed.incomplete:
        # Said on the run and to whoever trains: nobody can rebuild it from this.
        store.tag(run_id, **{INCOMPLETE: changed.incomplete[:LONGEST_TAG]})
        print(f"warning: MLflow's record of the code is incomplete: {changed.incomplete}", file=sys.stderr, flush=True)
    stages = _upstream(train.deps, _locked_records()) | {"train": train}
    with tempfile.TemporaryDirectory() as folder:
        if changed.patch:
            (Path(folder) / PATCH).write_bytes(changed.patch)
        _write(Path(folder) / PROVENANCE_FILE, Provenance(commit, changed.left_out, stages, changed.incomplete))
        if changed.left_out:
            # MLflow takes only UTF-8, and names may be anything else.
            names = (os.fsencode(name).decode(errors="replace") for name in changed.left_out)
            store.tag(run_id, git_left_out=", ".join(names)[:LONGEST_TAG])
        store.client.log_artifacts(run_id, folder, PROVENANCE_FOLDER)


def _write(path: Path, provenance: Provenance) -> None:
    stages = {
        name: dataclasses.replace(
            record.with_code(name),
            deps={shown(path): digest for path, digest in record.deps.items()},
            params=masked(record.params),
        )
        for name, record in provenance.stages.items()
    }
    content = dataclasses.asdict(dataclasses.replace(provenance, stages=stages))
    write_text(path, json.dumps(content, indent=1) + "\n")


def _upstream(deps: dict[str, str | None], locked: dict[str, StageRecord]) -> dict[str, StageRecord]:
    """Records of the stages that made `deps` and of those before them; none whose outputs are others by now."""
    found: dict[str, StageRecord] = {}
    for name, record in locked.items():
        made = [path for path in record.outs if path in deps]
        if made and all(record.outs[path] == deps[path] for path in made):
            found = _upstream(record.deps, locked) | found | {name: record}
    return found


def _locked_records() -> dict[str, StageRecord]:
    """What dvc.lock says of every stage; nothing where it is missing or damaged."""
    try:
        return read_lock()
    except InputError:
        return {}
