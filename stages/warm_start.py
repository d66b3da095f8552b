"""warm_start: warm_start.json -> data/warm_start/: the model that trainings begin with, if not with random weights.

The file holds `{}`, or what `rnnlm retrain` writes there: the hash of each file of the model, as dvc.lock has it. A
copy of it lies in the folder, as DVC warns of folders that are empty.
"""

import json
import re
import shutil
from pathlib import Path

from pipeline.provenance.dvc import restore
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import scratch_folder, write_text
from pipeline.runtime.stage import run_stage

FILE, FOLDER = Path("warm_start.json"), Path("data/warm_start")
NAMES = ["config.json", "model.safetensors", "vocabulary.tsv"]


def warm_start() -> None:
    """Bring the files that warm_start.json names out of DVC's cache or remote, and copy it beside them."""
    digests = read_digests(FILE)
    with scratch_folder(FOLDER) as scratch:
        write_text(scratch / FILE.name, json.dumps(digests, indent=1, sort_keys=True) + "\n")
        for name, digest in digests.items():
            restore(f"{name} of {FILE}", digest, scratch / name)
        shutil.rmtree(FOLDER, ignore_errors=True)
        scratch.rename(FOLDER)


def read_digests(path: Path) -> dict[str, str]:
    """The MD5 of each file of the model, by name.

    Raises:
        InputError: the file is missing, or holds anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found == {} or (sorted(found) == NAMES and all(re.fullmatch("[0-9a-f]{32}", found[name]) for name in NAMES)):
            return found
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `git checkout {path}`, or write {{}} into it") from None
    except (ValueError, TypeError):
        pass
    raise InputError(f"{path} must hold {{}}, or the MD5 of {', '.join(NAMES)} by these names, as dvc.lock has them")


if __name__ == "__main__":
    run_stage(warm_start)
