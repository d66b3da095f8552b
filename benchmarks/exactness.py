"""What the same bytes on every machine cost: `train.precision: exact` as stages run it, against `auto` and `fp32`.

Each figure is that of a process of its own, since libraries read once which code to take; the two sides take turns.
Rows read the encoded default corpus, so they need one `make repro` before. `python -m benchmarks.exactness --json FILE`
takes five minutes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.harness import Result, from_pairs, run, seconds
from benchmarks.training import EPOCH_SHARE, our_epoch
from pipeline.model.batches import token_budget_batches
from pipeline.params import load_params
from pipeline.runtime.exactness import SAME_ARITHMETIC
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers

PAIRS = 5


def rows() -> Iterator[Result]:
    """Each cell as it ships but for the precision, over every 24th batch of an epoch."""
    for name in load_params().cells:
        for peer in ("auto", "fp32"):
            pairs, tokens = [], 0
            for _ in range(PAIRS):
                ours, tokens = _measured(name, "exact", "import stages")
                theirs, tokens = _measured(name, peer, "pass")
                pairs.append((ours, theirs))
            yield from_pairs(f"exact_{name}", f"train.precision: {peer}", pairs, tokens, "tokens/s")


def _measured(name: str, precision: str, first: str) -> tuple[float, int]:
    """Seconds of the steps, and their tokens, in a process that begins with the statement `first`."""
    code = f"{first}; from benchmarks.exactness import train; train({name!r}, {precision!r})"
    environment = {key: value for key, value in os.environ.items() if key not in SAME_ARITHMETIC}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(told[0]), int(told[1])


def train(name: str, precision: str) -> None:
    """Train twice on the same batches, and print the seconds of the second time and the tokens."""
    cell = load_params().cell(name)
    split, vocabulary = load_split(ENCODED / "train"), Vocabulary.load(VOCABULARY)
    train = in_numbers(cell.train.model_copy(update={"precision": precision}), cell.model, split.tokens)
    cell = replace(cell, train=train)
    chosen = token_budget_batches(split, train.batch_tokens, train.seed, 1)[::EPOCH_SHARE]
    steps = our_epoch(cell, split, vocabulary, chosen)
    steps()
    print(seconds(steps), sum(int(split.lengths[sentences].sum()) for sentences in chosen))


if __name__ == "__main__":
    run(rows)
