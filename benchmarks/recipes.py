"""A recipe run again, seed by seed, each from nothing: is it as fast and as good as its record says?

`python -m benchmarks.recipes NAME` runs `--seeds` seeds, each by `rnnlm recipe NAME --afresh`, and fails where they are
slower or worse than the record, or where `exact` makes other weights of the same code. With `--record` they become the
record, if they are allowed to: the recipe has to be committed, as a record names the commit that makes it again, and in
the record book a new one has to beat the old. Then seeds that were run before, of the same parameters and code, count,
of the record or in .rnnlm/recipes/NAME.json, so five seeds of half an hour each are as many sittings as you like.
"""

import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import start
from pipeline.params import flat
from pipeline.provenance import git
from pipeline.retraining.recipe_run import RECIPES, recipe_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import sha256
from pipeline.runtime.markdown import markdown_table
from pipeline.runtime.paths import PINS, WEIGHTS_FILE
from pipeline.training.history import HISTORY_FILE, read_history
from tools.headline import machine_of
from tools.records import RECORD_FILE, SEEDS_WANTED, Figures, ProvedRun, Record, read_record, write_pages

SLOWER = 1.25  # times the record's median: runs on one machine differ by a tenth, and on a shared one by more
CHANCE = 3.0  # standard errors by which a mean may be worse: once in 700 times luck alone does that
UNKNOWN_SD = 0.005  # of a perplexity over seeds, as a share of it, where the record has one seed
SURE = 0.01  # the largest p-value by which a new record beats an old one
COMMAND = "from pipeline.cli import main; main()"


def measure(name: str, seed: int) -> tuple[ProvedRun, str]:
    """Run the recipe from nothing with this seed; returns what came of it, and the digest of the code that trained.

    Raises:
        InputError: the command fails; its message went to standard error.
    """
    command = [sys.executable, "-c", COMMAND, "recipe", name, "--afresh", "--json", "-S", f"train.seed={seed}"]
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE)
    seconds = time.monotonic() - begun
    if done.returncode:
        raise InputError(f"`rnnlm recipe {name}` failed with seed {seed}; its message stands above")
    told = json.loads(done.stdout)
    folder = Path(told["folder"])
    machine = machine_of(folder)
    models = {key: figures_of(told["figures"][key], Path(path)) for key, path in told["models"].items()}
    run = ProvedRun(
        seed=seed,
        commit=told["commit"],
        date=datetime.now(UTC).date().isoformat(),
        processor=machine["machine.processor"],
        threads=int(machine["machine.threads"]),
        exact=machine["machine.exact"],
        seconds=round(seconds, 1),
        models=models,
    )
    return run, sha256(folder / PINS / "train.txt")


def figures_of(measured: dict[str, Any], model: Path) -> Figures:
    """What a run measured of the model in the folder `model`; `measured` is `rnnlm recipe --json`'s of it."""
    adapted = measured.get("adapted", {})
    return Figures(
        valid=measured["valid_perplexity"],
        test=measured["perplexity"],
        test_low=measured.get("perplexity_low"),
        test_high=measured.get("perplexity_high"),
        weights_sha256=sha256(model / WEIGHTS_FILE),
        adapted={key: figures["perplexity"] for key, figures in adapted.items()},
        adapted_valid={key: figures["valid_perplexity"] for key, figures in adapted.items()},
        curve=[record.valid_perplexity for record in read_history(model / HISTORY_FILE)],
    )


def deciding(content: dict[str, Any]) -> dict[str, Any]:
    """What of all parameters decides a result, by key: not the seed, addresses of corpora, retraining or a sweep."""
    values = flat({key: value for key, value in content.items() if key not in ("retrain", "tune")})
    return {
        key: value for key, value in values.items() if not key.startswith("download.sources.") and key != "train.seed"
    }


def slower(record: Record, runs: list[ProvedRun]) -> list[str]:
    """Where runs take longer than the record's on that processor, a line each.

    Where the record has no run on it, the minutes in the recipe's name are the limit. Without them nobody can say,
    and that is a line too: a check that cannot be made does not pass.
    """
    found = []
    for place in dict.fromkeys(map(_place, runs)):
        ours, theirs = ([run.seconds for run in some if _place(run) == place] for some in (runs, record.runs))
        now = statistics.median(ours)
        if theirs:
            if now > SLOWER * (then := statistics.median(theirs)):
                found.append(f"slower on {place}: {now:.0f} s, the record {then:.0f} s")
        elif record.budget is None:
            found.append(f"slower or not? The record has no run on {place}; --any-speed compares figures alone")
        elif now > 60 * record.budget:
            found.append(f"slower on {place}: {now:.0f} s, and {record.recipe} has {record.budget} minutes")
    return found


def worse(record: Record, runs: list[ProvedRun]) -> list[str]:
    """Which perplexities of runs are worse than the record's, a line each."""
    found = []
    new = record.model_copy(update={"runs": runs})
    for what, ours, theirs in (("test", new.static, record.static), ("adapted", new.adapted, record.adapted)):
        if not theirs:
            continue
        if not ours:
            found.append(f"no {what} perplexity, which the record has")
            continue
        sd = statistics.stdev(theirs) if len(theirs) > 1 else UNKNOWN_SD * theirs[0]
        now, then = statistics.mean(ours), statistics.mean(theirs)
        most = then + CHANCE * sd * sqrt(1 / len(ours) + 1 / len(theirs))
        if now > most:
            found.append(f"worse: {what} perplexity {now:.2f}, the record {then:.2f}; by luck at most {most:.2f}")
    return found


def other_bytes(record: Record, new: Record) -> list[str]:
    """Where `exact` made other weights than the record's of the same parameters, code and seed, a line each."""
    if (new.precision, new.params, new.code) != ("exact", record.params, record.code):
        return []
    theirs = {run.seed: run.models for run in record.runs if run.exact == "yes"}
    return [
        f"other bytes: the weights of {name} with seed {run.seed} are not the record's, of the same code in `exact`"
        for run in new.runs
        if run.exact == "yes"
        for name, figures in run.models.items()
        if run.seed in theirs and figures.weights_sha256 != theirs[run.seed][name].weights_sha256
    ]


def _place(run: ProvedRun) -> str:
    return f"{run.processor}, {run.threads} threads"


def p_better(new: list[float], old: list[float]) -> float:
    """The p-value of Welch's t-test for lower figures; 1 where there are too few to tell."""
    from scipy.stats import ttest_ind

    if min(len(new), len(old)) < 2 or len({*new, *old}) == 1:
        return 1.0
    test: Any = ttest_ind(new, old, equal_var=False, alternative="less")
    return float(test.pvalue)


def refusal(new: Record, old: Record | None) -> str | None:
    """Why `new` may not become the record; None where it may."""
    if new.budget and new.minutes > new.budget:
        return f"its slowest run took {new.minutes:.1f} minutes, and {new.recipe} has {new.budget}"
    if not new.budget or old is None or (old.params, old.code) == (new.params, new.code):
        return None
    if len(old.runs) < 2:
        return None  # of one seed nobody knows how it varies: that is not worth a defence yet
    if len(new.runs) < min(SEEDS_WANTED, len(old.runs)):
        return f"it has {len(new.runs)} seeds, the record {len(old.runs)}; run more of them, in another sitting"
    better = {kind: p_better(getattr(new, kind), getattr(old, kind)) for kind in ("static", "adapted")}
    lost = [kind for kind in better if p_better(getattr(old, kind), getattr(new, kind)) < SURE]
    if min(better.values()) >= SURE or lost:
        told = ", ".join(f"{kind} p = {p:.3f}" for kind, p in better.items())
        return f"it is not better than the record with p < {SURE} ({told}{'; worse ' if lost else ''}{', '.join(lost)})"
    return None


def main(
    name: Annotated[str, typer.Argument(help="of a folder of recipes/")],
    seeds: Annotated[int, typer.Option(min=1, help="1 and the next ones; with --record in all")] = 1,
    record: Annotated[bool, typer.Option("--record", help="make them the record, if they may be")] = False,
    any_speed: Annotated[bool, typer.Option("--any-speed", help="compare perplexities, not seconds")] = False,
) -> None:
    """Run the seeds, and compare them with the record, or make them one."""
    content, params = recipe_params(name)
    precision = next(iter(params.cells.values())).train.precision
    sittings, kept = git.RECIPE_RUNS / f"{name}.json", RECIPES / name / RECORD_FILE
    new = Record(
        recipe=name, command=f"rnnlm recipe {name}", precision=precision, params=deciding(content), code="", runs=[]
    )
    before, old = read_record(sittings), read_record(kept)
    if old is None and not record:
        raise InputError(f"{name} has no record to compare with; --record makes one")
    if record:
        own = RECIPES / name / "params.yaml"
        if git.output("status", "--porcelain", "--", str(own)):
            raise InputError(f"no record: {own} is not in the commit that the record would name; commit it first")
        new = next((known for known in (before, old) if known and known.params == new.params), new)
    while missing := sorted(set(range(1, seeds + 1)) - {run.seed for run in new.runs}):
        run, code = measure(name, missing[0])
        if code != new.code:
            new = new.model_copy(update={"code": code, "runs": []})  # those before are of other code
        new.runs.append(run)
        new.runs.sort(key=lambda of: of.seed)
        if record:
            write_text(sittings, new.model_dump_json(indent=1) + "\n")
    print(markdown_table([["seed", "minutes", "validation", "test", "adapted"], *map(_row, new.runs)]))
    if record:
        if why := refusal(new, old):
            raise InputError(f"no record: {why}")
        write_text(kept, new.model_dump_json(indent=1) + "\n")
        for path in write_pages():
            print(f"wrote {path}")
    elif old:
        if precision == "exact" and (new.params, new.code) != (old.params, old.code):
            print("note: weights are not compared, as the record is of other code or parameters", file=sys.stderr)
        if told := [*([] if any_speed else slower(old, new.runs)), *worse(old, new.runs), *other_bytes(old, new)]:
            raise InputError("; ".join(told))


def _row(run: ProvedRun) -> list[str]:
    adapted = run.best.most_adapted
    figures = f"{run.best.valid:.2f}", f"{run.best.test:.2f}", "-" if adapted is None else f"{adapted:.2f}"
    return [str(run.seed), f"{run.seconds / 60:.2f}", *figures]


if __name__ == "__main__":
    start(main)
