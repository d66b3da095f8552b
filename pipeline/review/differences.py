"""What differs between two runs: code, data, parameters and metrics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.params import flat
from pipeline.provenance.dvc import CODE_KINDS, StageRecord
from pipeline.review.listing import finite_metrics
from pipeline.runtime.paths import MODELS, PINS
from pipeline.runtime.urls import masked
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import COMMIT, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

Pair = tuple[Any, Any]  # of run A and of run B; None: not recorded there
CODE_ENDINGS = (".py", "constraints.txt")
# Sections of params.yaml that a run has among its own parameters, merged for its cell.
IN_RUN = ("model", "train", "cells")
# Curves over epochs and seconds, whose last value says nothing.
CURVES = ("system/", "train/", "valid/loss", "valid/perplexity", "speed/epoch_seconds", "speed/tokens_per_second")


@dataclass(frozen=True)
class Differences:
    """What two runs do not have in common, and all their metrics, equal ones too."""

    code: dict[str, Pair]  # git commit, changes since, by path what each module does, by name each library's version
    data: dict[str, Pair]  # by path: the hash of each file or folder of data
    parameters: dict[str, Pair]  # by SECTION.KEY of params.yaml, and those of the machine and its libraries
    metrics: dict[str, Pair]  # as `finite_metrics`
    remarks: tuple[str, ...]  # sentences on what could not be compared


def differences(store: Store, a: "Run", b: "Run") -> Differences:
    """Compare two runs by what MLflow has of them.

    Raises:
        InputError: a run's record of its files is damaged.
    """
    known = [read_provenance(store, run.info.run_id) for run in (a, b)]
    remarks = [
        f"{run.info.run_name}: no record of its files, so files and earlier stages are not compared."
        for run, provenance in zip((a, b), known, strict=True)
        if provenance is None
    ]
    # What only one of the two has recorded is not a difference.
    stages_a, stages_b = ({} if remarks or not provenance else provenance.stages for provenance in known)
    code_a, code_b = _modules(stages_a), _modules(stages_b)
    if len({any(record.code for record in stages.values()) for stages in (stages_a, stages_b)}) == 2:
        remarks.append("One run recorded the bytes of its code, the other what it does, so modules are not compared.")
        code_a = code_b = {}
    metrics_a, metrics_b = _metrics(a), _metrics(b)
    return Differences(
        _unequal(_commit(a) | code_a, _commit(b) | code_b),
        _unequal(_data(a, stages_a), _data(b, stages_b)),
        _unequal(a.data.params | _upstream_params(stages_a), b.data.params | _upstream_params(stages_b)),
        {key: (metrics_a.get(key), metrics_b.get(key)) for key in metrics_a | metrics_b},
        tuple(remarks),
    )


def _is_code(path: str) -> bool:
    return path.endswith(CODE_ENDINGS) or Path(path).parent == PINS


def _modules(stages: Mapping[str, StageRecord]) -> dict[str, str | None]:
    """The hash of all code that the stages read; where it is known what a file of pins says, that in its place."""
    found: dict[str, str | None] = {}
    for name, record in stages.items():
        files = {path: digest for path, digest in record.deps.items() if _is_code(path)}
        if record.code:
            del files[(PINS / f"{name}.txt").as_posix()]
        found |= files | record.code
    return found


def _commit(run: "Run") -> dict[str, str | None]:
    tags = run.data.tags
    changed = {"true": tags.get("git_changed_files", "yes"), "false": "none"}.get(tags.get("git_dirty", ""))
    return {"git commit": tags.get(COMMIT), "changed since": changed}


def _data(run: "Run", stages: Mapping[str, StageRecord]) -> dict[str, str | None]:
    found = {}
    for used in run.inputs.dataset_inputs if run.inputs else []:
        found[json.loads(used.dataset.source).get("uri", used.dataset.name)] = used.dataset.digest
    return found | {
        path: digest
        for record in stages.values()
        for path, digest in record.deps.items()
        # `pins` reads folders of code, comments included; what of them counts is among the modules. And what training
        # writes differs with everything it read.
        if not _is_code(path) and path not in CODE_KINDS and not Path(path).is_relative_to(MODELS)
    }


def _upstream_params(stages: Mapping[str, StageRecord]) -> dict[str, str]:
    """The parameters of the stages before and after training, by SECTION.KEY."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for record in stages.values()
        for key, value in flat(masked(record.params)).items()
        if key.partition(".")[0] not in IN_RUN
    }


def _metrics(run: "Run") -> dict[str, float | None]:
    return {key: value for key, value in finite_metrics(run).items() if not key.startswith(CURVES)}


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}
