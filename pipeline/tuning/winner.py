"""The winner of a sweep as an entry of `cells` in params.yaml, whose other lines and comments stay as they are."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.params import check_params, read_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text

PARAMS = Path("params.yaml")


class _Representer(RoundTripRepresenter):
    """Writes `null`, as the file does, where ruamel would write nothing."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def require_free(name: str, is_ours: Callable[[Mapping[str, Any]], bool]) -> None:
    """Raise InputError where `cells` cannot have an entry of this name, or has one that no sweep wrote (`is_ours`)."""
    content = read_params(PARAMS)
    there = content.get("cells", {}).get(name)
    check_params(content | {"cells": {name: {}}}, PARAMS.name)
    if there is not None and not is_ours(there):
        raise InputError(f"{PARAMS} has a cell {name} that is not this sweep's; `--write NAME` takes another name")


def write_cell(name: str, entry: Mapping[str, Any], remark: str) -> bool:
    """Write an entry of `cells`, with a comment beside its name; False where it is there already.

    Raises:
        InputError: params.yaml is missing or damaged, or such an entry does not fit it.
    """
    content = read_params(PARAMS)
    if content["cells"].get(name) == entry:
        return False
    check_params(content | {"cells": content["cells"] | {name: entry}}, PARAMS.name)
    yaml = YAML()
    yaml.Representer, yaml.preserve_quotes, yaml.width = _Representer, True, 10**6
    document = yaml.load(PARAMS.read_text(encoding="utf-8"))
    cells = document["cells"]
    cells[name] = CommentedMap(entry)
    cells.yaml_add_eol_comment(remark, name, column=0)
    written = io.StringIO()
    yaml.dump(document, written)
    write_text(PARAMS, written.getvalue())
    return True
