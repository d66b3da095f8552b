"""Bringing MLflow up to what lies in data/: runs that DVC restored, or that MLflow missed."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.model.language_model import model_digest
from pipeline.params import load_params, read_params
from pipeline.provenance.inputs import dvc_digest
from pipeline.runtime.errors import InputError
from pipeline.tracking.runs import add_evaluation, add_report
from pipeline.tracking.store import Store
from pipeline.tracking.training_runs import trained_run

DATA = Path("data")


def sync(store: Store) -> list[str]:
    """Make or complete the run of every model that dvc.lock vouches for; what is there already stays as it is.

    Returns:
        A line for each cell of params.yaml, on what was done.

    Raises:
        InputError: params.yaml or dvc.lock cannot be read.
        Exception: whatever MLflow, its database or its server raises.
    """
    cells = load_params().cells
    lock = Lock(Path("dvc.lock"), Path("params.yaml"))
    lines = []
    for name, cell in cells.items():
        models, evaluation = DATA / "models" / name, DATA / "evaluation" / name
        if not (lock.vouches_for("tokenize") and lock.vouches_for(f"train@{name}")):
            lines.append(f"{name}: no model of these parameters; run `dvc repro` first")
            continue
        known = store.find_run(model_digest(models)) is not None
        run = trained_run(store, cell, models)
        evaluated = lock.vouches_for(f"evaluate@{name}") and add_evaluation(store, cell, models, evaluation)
        done = "up to date" if known and not evaluated else "evaluation added" if known else "run made"
        lines.append(f"{name}: {done} ({store.run(run.info.run_id).info.run_name})")
    if lock.vouches_for("report"):
        add_report(store, DATA / "report", list(cells))
    return lines


class Lock:
    """What dvc.lock says of the stages, held against params.yaml and the files of today.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, path: Path, params: Path) -> None:
        try:
            self._stages: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        except FileNotFoundError:
            raise InputError(f"{path} is missing; run `dvc repro` first") from None
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; restore it with `git checkout {path}` or run `dvc repro`") from None
        self._params: Any = read_params(params)

    def vouches_for(self, stage: str) -> bool:
        """Whether the stage ran with the parameters of today, and its outputs lie there as it left them."""
        entry = self._stages.get(stage)
        if entry is None:
            return False
        recorded = entry.get("params", {}).get("params.yaml", {})
        return all(self._param(key) == value for key, value in recorded.items()) and all(
            Path(out["path"]).exists() and dvc_digest(Path(out["path"])) == out["md5"] for out in entry.get("outs", [])
        )

    def _param(self, dotted: str) -> Any:
        value = self._params
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value
