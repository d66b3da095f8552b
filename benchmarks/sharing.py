"""Training runs that share the processors: as stages run, and with the waiting that OpenMP's threads do by default.

A thread that waits for the others of its process spins, which takes a processor from other work; stages and commands
make threads sleep sooner. Each figure is that of one training run of the default GRU on random words, alone or beside
another. `python -m benchmarks.sharing --json FILE` takes two minutes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.harness import Result, from_pairs, run
from benchmarks.training import our_step
from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Sampler
from pipeline.model.packed import PackedBatch
from pipeline.params import load_params

RUNS = 5
WATCHED = 4.0  # for which a training run is watched
SENTENCE_COUNT, LENGTH = 64, 16
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def rows() -> Iterator[Result]:
    """One training run alone, and one of two."""
    for name, count in (("alone", 1), ("two_at_once", 2)):
        pairs = [(seconds_a_step(count, "import stages"), seconds_a_step(count, "pass")) for _ in range(RUNS)]
        yield from_pairs(name, "OpenMP's own patience", pairs, SENTENCE_COUNT * LENGTH, "tokens/s")


def seconds_a_step(count: int, first: str) -> float:
    """Seconds of a step in one of `count` processes that train at the same time.

    Args:
        count: of processes.
        first: a statement that they begin with.
    """
    code = f"{first}; from benchmarks.sharing import train; train()"
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return float(np.mean([float(process.communicate()[0]) for process in processes]))


def train() -> None:
    """Train for `WATCHED`, and print the seconds of a step."""
    params = load_params()
    cell, C = params.cells["gru"], params.vocabulary.size or 8000
    chances = 1 / torch.arange(1, C + 1)  # Zipf's law
    x_N, y_N = torch.multinomial(chances, 2 * SENTENCE_COUNT * LENGTH, replacement=True).view(2, -1)
    batch = PackedBatch(x_N, y_N, (SENTENCE_COUNT,) * LENGTH, np.arange(SENTENCE_COUNT))
    sampler = Sampler((1e6 * chances).long().tolist(), cell.train.sampled_words or 1000, cell.train.sampling_power, 1)
    model = LanguageModel(cell.model, C, torch.Generator().manual_seed(1))
    step = our_step(model, batch, "auto", sampler, "adamw")
    for _ in range(5):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < WATCHED:
        step()
        steps += 1
    print((time.perf_counter() - start) / steps)


if __name__ == "__main__":
    run(rows)
