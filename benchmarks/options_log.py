"""Each option of training on and off in the 10-minute recipe: docs/log.md.

`python -m benchmarks.options_log` trains what the log lacks, seed by seed, on the text that `rnnlm recipe ptb-10min`
has prepared, and writes docs/log.md after each; Ctrl-C, and the next call goes on with what is missing. Two processes,
`--seed 1` and `--seed 2`, take two thirds of the time: one thread each does more than two do for one. `--only NAME` is
for one row, `--list` runs nothing. Figures are of the validation split: the test split chooses nothing.
"""

import json
import statistics
import time
from contextlib import chdir
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness import start
from benchmarks.quality import train_silently
from pipeline.model.language_model import LanguageModel
from pipeline.params import Params, at
from pipeline.provenance.environment import machine_params
from pipeline.provenance.git import RECIPE_RUNS
from pipeline.retraining.recipe_run import recipe_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import fingerprint
from pipeline.runtime.locks import one_at_a_time
from pipeline.runtime.markdown import markdown_table
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers

BASE = "ptb-10min"
LOG = Path("docs/log.md")
OPTIONS_FILE = Path(f"recipes/{BASE}/options.json")  # what docs/log.md shows, with the parameters it was measured with
LOG_SEEDS = (1, 2)
LOG_PRECISION = "auto"  # where a processor has bf16, half the time of exact; a row tells what float32 changes
LOW_RATE = {"train.learning_rate": (0.01, 0.002)}  # of the rows that need two layers
# A row: its name, and values by which the option is off where the recipe has it on, or on where the recipe has it off.
OPTIONS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "locked dropout of inputs (of one layer: the embedding)": {"train.locked_dropout_inputs": (0.0, 0.2)},
    "locked dropout of outputs": {"train.locked_dropout_outputs": (0.0, 0.3)},
    "locked dropout of states": {"train.locked_dropout_states": (0.0, 0.2)},
    "dropped words": {"train.dropped_words": (0.0, 0.05)},
    "dropped recurrent weights": {"train.dropped_recurrent_weights": (0.0, 0.3)},
    "weight decay": {"train.weight_decay": (0.0, 0.1)},
    "activation regularization": {"train.activation_regularization": (0.0, 2.0)},
    "temporal activation regularization": {"train.temporal_regularization": (0.0, 1.0)},
    "the mean of the last quarter's weights": {"train.average": (None, "last"), "train.average_share": (None, 0.25)},
    "an exponential mean of weights": {"train.average": (None, "exponential"), "train.average_decay": (None, 0.999)},
    "Mogrifier": {"model.mogrifier_rounds": (0, 5)},
    "Mogrifier, two rounds": {"model.mogrifier_rounds": (0, 2)},
    "betas of AdamW": {"train.betas": ([0.9, 0.999], [0.9, 0.99])},
    "falling along a line": {"train.schedule": ("auto", "linear")},
    "clipping at a norm of 0.5": {"train.clip_norm": (1.0, 0.5)},
    "clipping of each number": {"train.clip_value": (None, 0.001)},
    "tied embedding": {"model.tie_weights": (False, True)},
    "sampled softmax": {"train.sampled_words": (None, 1000)},
    "a stream for sentences": {"train.context": ("sentence", "stream")},
    "two layers": {"model.layers": (1, 2)},
    "a rate of 0.002": LOW_RATE,
    "a rate of 0.002, two layers": LOW_RATE | {"model.layers": (1, 2)},
    "a rate of 0.002, two layers, plain dropout": LOW_RATE | {"model.layers": (1, 2), "model.dropout": (0.0, 0.1)},
    "a rate of 0.002, two layers of different width": LOW_RATE
    | {"model.layers": (1, 2), "model.lower_sizes": (None, [512])},
    "falling in steps": {
        "train.schedule": ("auto", "step"),
        "train.decay_after": (None, 3),
        "train.decay_factor": (None, 4.0),
    },
    "SGD at a rate of 30, averaged once validation stops falling": {
        "train.optimizer": ("adamw", "sgd"),
        "train.learning_rate": (0.01, 30.0),
        "train.weight_decay": (0.2, 1.2e-6),
        "train.schedule": ("auto", "constant"),
        "train.warmup": (0.05, 0.0),
        "train.average": (None, "triggered"),
        "train.average_patience": (None, 1),
    },
    "float32 all through": {"train.precision": ("fp32", LOG_PRECISION)},
}
ABOUT_LOG = f"""# What was tried

Each option of training on and off in the recipe `{BASE}` ([records.md](records.md)), all else equal: validation
perplexity of Penn Treebank after each of two seeds, and seconds of training alone, on one thread of the machine of that
day, with `precision: {LOG_PRECISION}` (locked dropout of states and the Mogrifier keep the LSTM in float32, the last
row all of it). Compare seconds only between rows that name no processor, which are of an Intel Xeon with AMX, or the
same one. A row is switched off where the recipe has it, and on where it does not; below the recipe's own
perplexity is better. Two seeds tell only differences that are larger than those between them. Two layers learn slowly
in five epochs, at every rate that was tried; what needs them stands at 0.002, beside one layer and two at
that rate. With gradient descent, averaging begins once validation rises, which it never did.
`python -m benchmarks.options_log` measures what is missing and writes this page; nothing else does.
"""


def switched(content: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """The changes `KEY=VALUE` to the recipe's parameters that put its options the other way round."""
    found = []
    for key, (off, on) in options.items():
        now = at(content, key)
        found.append(f"{key}={json.dumps(on if now == off else off)}")
    return found


def measured(params: Params, seed: int) -> dict[str, Any]:
    """Train the recipe's one model on the text in data/ here, on one thread.

    Returns:
        `valid`, the best validation perplexity; `curve`, that after each epoch; `seconds`, and the `processor`
        that took them.
    """
    (cell,) = params.cells.values()
    vocabulary = Vocabulary.load(VOCABULARY)
    splits = {split: load_split(ENCODED / split) for split in ("train", "valid")}
    train = in_numbers(cell.train, cell.model, splits["train"].tokens).model_copy(update={"seed": seed})
    model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(seed))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begun = time.monotonic()
    try:
        history = train_silently(model, splits, vocabulary, train)
    finally:
        torch.set_num_threads(threads)
    curve = [epoch.valid_perplexity for epoch in history]
    seconds = round(time.monotonic() - begun, 1)
    return {"valid": min(curve), "curve": curve, "seconds": seconds, "processor": machine_params()["machine.processor"]}


def read_measures() -> dict[str, Any]:
    """What options.json holds: `rows` by name, and a digest of the `recipe` they are of; None: nothing yet."""
    return (
        json.loads(OPTIONS_FILE.read_text(encoding="utf-8")) if OPTIONS_FILE.exists() else {"recipe": None, "rows": {}}
    )


def _keep(name: str, changes: list[str], seed: int, found: dict[str, Any]) -> None:
    """Add one measure to those of the file, which another process may be adding to."""
    with one_at_a_time(RECIPE_RUNS / "options.lock", f"{OPTIONS_FILE} is being written", seconds=60):
        known = read_measures()
        rows = {row: known["rows"][row] for row in OPTIONS if row in known["rows"]}
        if rows.get(name, {}).get("changes") != changes:
            rows[name] = {"changes": changes, "seeds": {}}
        rows[name]["seeds"][str(seed)] = found
        known["rows"] = rows
        write_text(OPTIONS_FILE, json.dumps(known, indent=1) + "\n")
        write_text(LOG, log_page(known["rows"]))


def log_page(known: dict[str, dict[str, Any]]) -> str:
    """docs/log.md, from the rows of options.json."""
    rows = [["option", "changed", "each seed", "mean", "against the recipe", "seconds"]]
    base = _mean(known.get("the recipe", {}))
    for name in OPTIONS:
        found = known.get(name, {})
        mean = _mean(found)
        measures = [one for _, one in sorted(found.get("seeds", {}).items())]
        each, seconds = [one["valid"] for one in measures], [one["seconds"] for one in measures]
        processors = sorted({one["processor"] for one in measures if "processor" in one})
        against = f"{mean / base - 1:+.1%}" if mean and base and name != "the recipe" else ""
        rows.append(
            [
                *(name, ", ".join(f"`{change}`" for change in found.get("changes", []))),
                *(", ".join(f"{value:.2f}" for value in each) or "not measured yet", f"{mean:.2f}" if mean else ""),
                *(against, ", ".join([f"{statistics.mean(seconds):.0f}", *processors]) if seconds else ""),
            ]
        )
    return f"{ABOUT_LOG}\n{markdown_table(rows)}\n"


def _mean(found: dict[str, Any]) -> float | None:
    return statistics.mean(one["valid"] for one in found["seeds"].values()) if found.get("seeds") else None


def main(
    only: Annotated[str | None, typer.Option(help="one row, by its name")] = None,
    seed_: Annotated[int | None, typer.Option("--seed", help="one seed; another process may do the other")] = None,
    list_: Annotated[bool, typer.Option("--list", help="run nothing; write the page")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="forget what was measured with an earlier recipe")] = False,
) -> None:
    """Measure what the log lacks, and write it."""
    if only is not None and only not in OPTIONS:
        raise InputError(f"no row {only!r}; there are: {', '.join(OPTIONS)}")
    precision = f"train.precision={LOG_PRECISION}"
    content, _ = recipe_params(BASE, [precision])
    known = read_measures()
    recipe = fingerprint({key: content[key] for key in ("model", "train", "cells")})
    if known["recipe"] not in (None, recipe) and not (anew or list_):
        raise InputError(f"{OPTIONS_FILE} is of {BASE} as it was earlier; --anew forgets that")
    text = RECIPE_RUNS / BASE
    if not list_ and not (text / ENCODED).is_dir():
        raise InputError(f"{text / ENCODED} is missing; run `rnnlm recipe {BASE}` first")
    if not list_ and known["recipe"] != recipe:
        write_text(OPTIONS_FILE, json.dumps({"recipe": recipe, "rows": {}}, indent=1) + "\n")
    for name, seed in product([] if list_ else [only] if only else OPTIONS, [seed_] if seed_ else LOG_SEEDS):
        changes = switched(content, OPTIONS[name])
        row = read_measures()["rows"].get(name, {})
        if row.get("changes") == changes and str(seed) in row["seeds"]:
            continue
        _, params = recipe_params(BASE, [precision, *changes])
        with chdir(text):
            found = measured(params, seed)
        _keep(name, changes, seed, found)
    write_text(LOG, log_page(read_measures()["rows"]))


if __name__ == "__main__":
    start(main)
