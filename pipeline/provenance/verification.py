"""Whether results are those of dvc.lock, byte for byte, whatever DVC's cache has."""

from pathlib import Path

from pipeline.provenance.dvc import digest_if_there, read_lock


def outputs_unlike_lock() -> tuple[int, dict[str, str]]:
    """How many outputs dvc.lock has, and what is wrong with those that do not lie here as it says, by their paths.

    Raises:
        InputError: dvc.lock is missing or damaged.
    """
    outs = {path: digest for record in read_lock().values() for path, digest in record.outs.items()}
    now = {path: digest_if_there(Path(path)) for path in outs}
    wrong = {path: "has other bytes" if now[path] else "is missing" for path in outs if now[path] != outs[path]}
    return len(outs), wrong
