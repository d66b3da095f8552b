"""warm_start.json: the model that training runs begin with, by the hash of each of its files; `{}`: random weights.

`rnnlm retrain` writes it and commits it with the results; the stage `warm_start` brings the files that it names.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import MODEL_FILES, WARM_START_REQUEST


def read_digests(path: Path = WARM_START_REQUEST) -> dict[str, str]:
    """The MD5 of each file of the model, by name, as dvc.lock has it.

    Raises:
        InputError: the file is missing, or holds anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        hashes = set(found) == set(MODEL_FILES) and all(
            re.fullmatch("[0-9a-f]{32}", found[name]) for name in MODEL_FILES
        )
        if found == {} or hashes:
            return found
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `git checkout {path}`, or write {{}} into it") from None
    except (ValueError, TypeError):
        pass
    raise InputError(
        f"{path} must hold {{}}, or the MD5 of {', '.join(sorted(MODEL_FILES))} by these names, as dvc.lock has them"
    )


def write_digests(digests: Mapping[str, str], folder: Path = Path()) -> None:
    """Write warm_start.json, unless it says so already."""
    text, path = json.dumps(digests, indent=1, sort_keys=True) + "\n", folder / WARM_START_REQUEST
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
