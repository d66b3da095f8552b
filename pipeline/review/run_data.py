"""The exact data of a run, brought back by the hashes that its record has."""

import tempfile
from pathlib import Path

from pipeline.provenance.dvc import restore
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import DATA, PINS
from pipeline.tracking.record import Provenance, read_provenance
from pipeline.tracking.store import Store

MODEL_STAGES = ("train", "evaluate")  # what they make is the run's result, not its data


def restore_data(store: Store, run_id: str, folder: Path) -> list[str]:
    """Copy the text, the vocabulary and the splits that a run was made from to a new folder.

    They come from DVC's cache, or from the remote. The folder appears whole or not at all.

    Returns:
        The paths in the folder, as they are in a project.

    Raises:
        InputError: the folder is there already, the run does not say what it read, or nobody has that any more.
    """
    provenance = read_provenance(store, run_id)
    wanted = _data(provenance) if provenance else {}
    if not wanted:
        raise InputError(f"run {run_id} does not say what it read: an older version made it, or MLflow was down")
    if folder.exists():
        raise InputError(f"{folder} is there already; name a new folder for the data")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        whole = Path(scratch) / "whole"
        for path, digest in wanted.items():
            restore(path, digest, whole / path)
        whole.rename(folder)
    return list(wanted)


def _data(provenance: Provenance) -> dict[str, str]:
    """Hashes of the data that the run's stages read and no stage of the model made, by their paths."""
    results = {path for name in MODEL_STAGES if name in provenance.stages for path in provenance.stages[name].outs}
    return {
        path: digest
        for record in provenance.stages.values()
        for path, digest in record.deps.items()
        if digest and path not in results and Path(path).is_relative_to(DATA) and not Path(path).is_relative_to(PINS)
    }
