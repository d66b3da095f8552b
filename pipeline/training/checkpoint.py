"""Checkpoints: a training run between two steps on disk, so that a kill costs a minute at most.

They lie outside DVC's outputs, which DVC deletes before it runs a stage, in a folder named by a key made of code,
data and parameters, so those of another run are never found. Each is a safetensors file with all tensors and, as JSON
in its head, all numbers of a `TrainingState`; random numbers are functions of the seed and the step, so there is no
random state. The name ends with the hash of the content: a damaged one is recognised, set aside, and the one before it
used. Two are kept.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline.model.cells import State
from pipeline.model.language_model import LanguageModel
from pipeline.model.streams import Carried
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path
from pipeline.runtime.hashes import fingerprint, sha256
from pipeline.training.history import EpochRecord

CHECKPOINTS = Path(".rnnlm/checkpoints")
SECONDS_VARIABLE = "RNNLM_CHECKPOINT_SECONDS"  # an environment variable, not a parameter, because it changes no result
CHECKPOINT_SECONDS = 30.0  # between two checkpoints, unless SECONDS_VARIABLE says otherwise
WRITING_SHARE = 0.02  # of the time, at most, goes into writing them
KEPT_CHECKPOINTS = 2  # checkpoints of one training run
KEPT_TRAININGS = 3  # unfinished runs of one cell that are kept, the newest


def training_key(code: Sequence[str], data: Iterable[Path], params: Mapping[str, object]) -> str:
    """The fingerprint of all that decides the result of a training run.

    `code` has lines of `pipeline.provenance.code`, `data` the files that are trained on, `params` what JSON can hold.
    """
    digests = [sha256(path) for path in data]
    libraries = {name: version(name) for name in ("torch", "numpy")}
    return fingerprint({"code": code, "data": digests, "params": params, "libraries": libraries})


@dataclass
class TrainingState:
    """All that a training run is between two steps.

    `step` and `history`, whose epochs say where they ended, also tell the epoch and the position in it.
    """

    model: LanguageModel
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimiser steps taken
    nats: float = 0.0  # training loss in the epoch under way, summed over its tokens
    tokens: int = 0  # predicted in the epoch under way
    history: list[EpochRecord] = field(default_factory=list)  # the epochs that are over
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # after the best of them, averaged where that is done
    average: dict[str, Tensor] = field(default_factory=dict)  # of the weights so far; empty: none, or none yet
    carried: Carried = field(default_factory=Carried)  # in the epoch under way, where it is one text

    @property
    def learning_rate(self) -> float:
        """Of the optimiser's next step; equal for all parameters."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class Checkpoints:
    """The checkpoints of one training run: of the cell `name`, with the `training_key` `key`.

    Attributes:
        folder: where they lie, FOLDER/NAME/KEY; deleted when the run is over.

    Raises:
        InputError: RNNLM_CHECKPOINT_SECONDS is not a number.
    """

    def __init__(self, name: str, key: str, folder: Path = CHECKPOINTS) -> None:
        self._cell = folder / name
        self.folder = self._cell / key
        try:
            self._between = float(os.environ.get(SECONDS_VARIABLE, CHECKPOINT_SECONDS))
        except ValueError:
            raise InputError(
                f"{SECONDS_VARIABLE} must be a number of seconds, not {os.environ[SECONDS_VARIABLE]!r}"
            ) from None
        self._start = time.monotonic()
        self._due = self._start + self._between
        self._before = 0.0  # seconds spent by processes that did not finish the run

    @property
    def seconds(self) -> float:
        """Spent on the run so far, by earlier processes too."""
        return self._before + time.monotonic() - self._start

    def save_if_due(self, state: TrainingState) -> None:
        """Write `state` if the last time is long enough ago; what that costs decides how long."""
        start = time.monotonic()
        if start < self._due:
            return
        self.save(state)
        end = time.monotonic()
        self._due = end + max(self._between, (end - start) / WRITING_SHARE)

    def save(self, state: TrainingState) -> None:
        """Write `state`, whole or not at all, and delete all but the last `KEPT_CHECKPOINTS`.

        Raises:
            OSError: the disk is full, say.
        """
        tensors = {f"model.{name}": weight for name, weight in state.model.state_dict().items()}
        tensors |= {f"best.{name}": weight for name, weight in state.best_weights.items()}
        tensors |= {f"average.{name}": weight for name, weight in state.average.items()}
        tensors |= {
            f"optimizer.{index}.{key}": value
            for index, values in state.optimizer.state_dict()["state"].items()
            for key, value in values.items()
            if isinstance(value, Tensor)
        }
        for layer, values in enumerate(state.carried.states or ()):
            both = values if isinstance(values, tuple) else (values,)
            tensors |= {f"carried.{layer}.{part}": value for part, value in enumerate(both)}
        numbers = {
            "step": state.step,
            "nats": state.nats,
            "tokens": state.tokens,
            "history": [dataclasses.asdict(record) for record in state.history],
            "learning_rate": state.learning_rate,
            "seconds": self.seconds,
        }
        # Copied: two names may share one tensor, which safetensors refuses.
        copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        content = safetensors.torch.save(copies, {"state": json.dumps(numbers)})
        name = f"{state.step:012d}-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(content)
        for path in self._saved()[KEPT_CHECKPOINTS:]:
            path.unlink(missing_ok=True)

    def restore(self, state: TrainingState) -> bool:
        """Put the newest whole checkpoint into a fresh `state`; False, and `state` as it was, where there is none."""
        # Other runs of the cell may yet be wanted again: the newest are kept.
        others = [path for path in self._cell.glob("*") if path != self.folder]
        for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_TRAININGS - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
        for path in self._saved():
            try:
                content = path.read_bytes()
            except OSError as error:
                print(f"warning: cannot read the checkpoint {path} ({error.strerror}); looking for another",
                      file=sys.stderr)  # fmt: skip
                continue
            if hashlib.sha256(content).hexdigest()[:32] == path.stem.partition("-")[2]:
                self._before = _put(path, state)
                return True
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            print(f"warning: a checkpoint is damaged and now called {aside}; looking for the one before it",
                  file=sys.stderr)  # fmt: skip
        return False

    def discard(self) -> None:
        """Delete them all: the run is over, its model saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        """All checkpoints, the newest first."""
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


def _put(path: Path, state: TrainingState) -> float:
    """Set `state` to what a checkpoint holds; returns the seconds that had been spent."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
        numbers = json.loads(file.metadata()["state"])
    device = next(state.model.parameters()).device
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("model", "best", "average", "optimizer", "carried")}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor.to(device)
    state.model.load_state_dict(parts["model"])
    state.best_weights, state.average = parts["best"], parts["average"]
    optimizer = state.optimizer.state_dict()
    optimizer["state"] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        optimizer["state"].setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict(optimizer)
    if carried := parts["carried"]:
        state.carried.keep([_state(carried, layer) for layer in range(len(state.model.layers))])
    state.learning_rate = numbers["learning_rate"]
    state.step, state.nats, state.tokens = numbers["step"], numbers["nats"], numbers["tokens"]
    state.history = [EpochRecord(**record) for record in numbers["history"]]
    return numbers["seconds"]


def _state(carried: dict[str, Tensor], layer: int) -> State:
    first, second = carried[f"{layer}.0"], carried.get(f"{layer}.1")
    return first if second is None else (first, second)
