"""What differs between two runs: in code, in data, in parameters, in what was measured."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.params import flat
from pipeline.provenance.dvc import StageRecord
from pipeline.review.listing import COMMIT
from pipeline.runtime.urls import without_secrets
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

Pair = tuple[Any, Any]  # of run A and of run B; None: not recorded there
# What a training run writes differs with everything that went in.
WRITTEN = "data/models/"
CODE = (".py", "constraints.txt")
PINS = "data/pins/"  # versions of libraries, so code
# Sections of params.yaml that a run has among its own parameters, merged for its cell.
IN_RUN = ("model", "train", "cells")
# Curves over epochs and seconds, whose last value says nothing.
CURVES = ("system/", "train/", "valid/loss", "valid/perplexity", "speed/epoch_seconds", "speed/tokens_per_second")


@dataclass(frozen=True)
class Differences:
    """All that two runs do not have in common; metrics stand here also where they are equal.

    Attributes:
        code: git commit, changes since, and the hash of each file of code or of pinned versions, by its path.
        data: the hash of each file or folder of data, by its path.
        parameters: by SECTION.KEY of params.yaml, and those of the machine and its libraries.
        metrics: the last value of each; None also where that is no finite number.
        remarks: sentences on what could not be compared.
    """

    code: dict[str, Pair]
    data: dict[str, Pair]
    parameters: dict[str, Pair]
    metrics: dict[str, Pair]
    remarks: tuple[str, ...]


def differences(store: Store, a: "Run", b: "Run") -> Differences:
    """Hold two runs against each other, by what MLflow knows of them.

    Raises:
        InputError: a run's record of its files is damaged.
    """
    stages = [_stages(store, run) for run in (a, b)]
    remarks = [
        f"{run.info.run_name}: no record of its files, so files and earlier stages are not compared."
        for run, known in zip((a, b), stages, strict=True)
        if known is None
    ]
    # What only one of the two has recorded is no difference.
    files_a, files_b = (_files(known or {}) if not remarks else {} for known in stages)
    params_a, params_b = (_upstream_params(known or {}) if not remarks else {} for known in stages)
    metrics_a, metrics_b = _metrics(a), _metrics(b)
    return Differences(
        _unequal(_code(a, files_a), _code(b, files_b)),
        _unequal(_data(a, files_a), _data(b, files_b)),
        _unequal(a.data.params | params_a, b.data.params | params_b),
        {key: (metrics_a.get(key), metrics_b.get(key)) for key in [*metrics_a, *(metrics_b.keys() - metrics_a.keys())]},
        tuple(remarks),
    )


def _stages(store: Store, run: "Run") -> dict[str, StageRecord] | None:
    provenance = read_provenance(store, run.info.run_id)
    return None if provenance is None else provenance.stages


def _files(stages: Mapping[str, StageRecord]) -> dict[str, str | None]:
    """The hash of everything that the stages have read."""
    return {path: digest for record in stages.values() for path, digest in record.deps.items()}


def _is_code(path: str) -> bool:
    return path.endswith(CODE) or path.startswith(PINS)


def _code(run: "Run", files: Mapping[str, str | None]) -> dict[str, str | None]:
    tags = run.data.tags
    changed = {"true": tags.get("git_changed_files", "yes"), "false": "none"}.get(tags.get("git_dirty", ""))
    return {
        "git commit": tags.get(COMMIT),
        "changed since": changed,
        **{path: digest for path, digest in files.items() if _is_code(path)},
    }


def _data(run: "Run", files: Mapping[str, str | None]) -> dict[str, str | None]:
    found = {}
    for used in run.inputs.dataset_inputs if run.inputs else []:
        found[json.loads(used.dataset.source).get("uri", used.dataset.name)] = used.dataset.digest
    return found | {
        path: digest for path, digest in files.items() if not _is_code(path) and not path.startswith(WRITTEN)
    }


def _upstream_params(stages: Mapping[str, StageRecord]) -> dict[str, str]:
    """What params.yaml said to the stages before and after training, `SECTION.KEY` each."""
    return {
        key: without_secrets(value if isinstance(value, str) else json.dumps(value))
        for record in stages.values()
        for key, value in flat(record.params).items()
        if key.partition(".")[0] not in IN_RUN
    }


def _metrics(run: "Run") -> dict[str, float | None]:
    return {
        key: value if math.isfinite(value) else None
        for key, value in sorted(run.data.metrics.items())
        if not key.startswith(CURVES)
    }


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}
