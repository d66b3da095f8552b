"""The records of recipes: recipes/NAME/record.json, the first lines of READMEs, and docs/records.md, the record book.

`python -m benchmarks.recipes NAME --record` writes all three; `python -m tools.records` the page and the lines alone.
"""

import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.params import read_params
from pipeline.retraining.recipe_run import RECIPES
from pipeline.runtime.errors import InputError, one_line
from pipeline.runtime.files import write_text
from pipeline.runtime.markdown import markdown_table
from pipeline.runtime.stage import run

RECORD_BOOK = Path("docs/records.md")
RECORD_FILE = "record.json"
BUDGET = re.compile(r"(?P<corpus>ptb|default)-(?P<minutes>\d+)min")  # an entry of the record book begins so
SEEDS_WANTED = 5
CORPORA = {"ptb": "Penn Treebank", "installed-docs": "Default corpus", "reddit": "Reddit comments"}
BY_HEADLINE = "default"  # whose record `make headline` writes, in a form of its own
ABOUT_RECORDS = """# The record book

The lowest test perplexity of a recurrent model within 3, 10 and 30 minutes, on Penn Treebank (Mikolov's files) and on
the default corpus, there also within 6: less than the default cells take. The minutes are wall clock on two processors,
from `rnnlm recipe NAME` to its last line: text, training, baselines, evaluation, adaptation and report. Figures are the
median of the seeds, with the 95% interval over the test text of that seed; *adapted* is the adaptation
([evaluation](evaluation.md)) that joins most, its weights
chosen on validation. `exact` is what anyone can make again, byte for byte, on any x86-64 processor with AVX2.

A row is what [`recipes/`](recipes.md) has under its name, with a record of each run: commit, processor, seconds,
perplexities, the curve, the hash of the weights. `python -m benchmarks.recipes NAME --seeds 5 --record` makes one, in
as many sittings as it takes, and replaces an older one only where the new one is better with p < 0.01 (Welch's t-test
over seeds). This page is written by that command; what was tried is in [recipes.md](recipes.md) and [log.md](log.md).
"""
ABOUT_CURVES = """## Epoch by epoch

Validation perplexity after each epoch, of the seed in the middle. `record.json` has those of the others, where they
were kept.
"""


class Figures(BaseModel):
    """What a run measured of a model."""

    model_config = ConfigDict(extra="forbid")

    valid: float
    test: float
    test_low: float | None  # of the 95% interval over the test text
    test_high: float | None
    weights_sha256: str
    adapted: dict[str, float] = {}  # test perplexity by adaptation
    adapted_valid: dict[str, float] = {}  # validation perplexity likewise
    curve: list[float] = []  # validation perplexity after each epoch; empty where a record is older than this field

    @property
    def most_adapted(self) -> float | None:
        """The test perplexity of the adaptation that joins most, of several such that is best on validation.

        Not of the best of all on validation: those in which the model learns are chosen on less of that text.
        """
        by_parts = sorted(self.adapted, key=lambda name: (-name.count("+"), self.adapted_valid[name]))
        return self.adapted[by_parts[0]] if by_parts else None


class ProvedRun(BaseModel):
    """One seed of a recipe, from nothing to its report."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    commit: str
    date: str
    processor: str
    threads: int
    exact: str  # `yes`, or why bytes depend on this machine
    seconds: float  # of wall clock, of the whole command
    models: dict[str, Figures]

    @property
    def best(self) -> Figures:
        """Of the model that is best on validation."""
        return min(self.models.values(), key=lambda figures: figures.valid)


class Record(BaseModel):
    """The runs that prove a recipe: of one code and of parameters that differ in the seed alone."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    command: str
    precision: str
    params: dict[str, Any]  # by their keys in params.yaml, without the seed
    code: str  # digest of what training runs
    runs: list[ProvedRun]

    @property
    def median(self) -> ProvedRun:
        """The run whose test perplexity is the median; of an even number the lower one in the middle."""
        middle = statistics.median_low(run.best.test for run in self.runs)
        return next(run for run in self.runs if run.best.test == middle)

    @property
    def budget(self) -> int | None:
        """The minutes in the recipe's name, where it has any."""
        match = BUDGET.match(self.recipe)
        return int(match["minutes"]) if match else None

    @property
    def minutes(self) -> float:
        """Of the slowest run."""
        return max(run.seconds for run in self.runs) / 60

    @property
    def static(self) -> list[float]:
        """The test perplexity of each seed."""
        return [run.best.test for run in self.runs]

    @property
    def adapted(self) -> list[float]:
        """That of each seed with the adaptation that joins most, where there is one."""
        return [value for run in self.runs if (value := run.best.most_adapted) is not None]


def read_record(path: Path) -> Record | None:
    """A record; None where there is none yet.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path} is not a record: {one_line(error)}") from None


def records() -> dict[str, Record | None]:
    """Of each recipe by name; not that of `make headline`."""
    names = sorted(path.parent.name for path in RECIPES.glob("*/params.yaml"))
    return {name: read_record(RECIPES / name / RECORD_FILE) for name in names if name != BY_HEADLINE}


def first_line(name: str, record: Record | None) -> str:
    """Of the recipe's README: corpus, test perplexity and interval, minutes, machine, command."""
    source = read_params(RECIPES / name / "params.yaml").get("download", {}).get("source", "installed-docs")
    corpus = CORPORA.get(source, source)
    if record is None:
        return f"{corpus}: test perplexity not measured yet: `rnnlm recipe {name}`."
    models = record.median.models
    figures = ", ".join(
        f"{key} {_shown(record, key)}" if models.keys() - {key} else _shown(record, key) for key in models
    )
    where = f"{record.minutes:.1f} minutes on {_machines(record)}, {record.precision}"
    return f"{corpus}: test perplexity {figures}, {_seeds(record)}, {where}: `{record.command}`."


def _shown(record: Record, model: str) -> str:
    """Of the run in the middle; adapted, the median."""
    figures = record.median.models[model]
    each = [value for run in record.runs if (value := run.models[model].most_adapted) is not None]
    interval = "" if figures.test_low is None else f" (95% interval {figures.test_low:.1f} to {figures.test_high:.1f})"
    adapted = f", adapted {statistics.median_low(each):.1f}" if each else ""
    return f"{figures.test:.1f}{interval}{adapted}"


def _seeds(record: Record) -> str:
    number = len(record.runs)
    return "one seed" if number == 1 else f"median of {number} seeds"


def _machines(record: Record) -> str:
    return " and ".join(dict.fromkeys(f"{run.processor}, {run.threads} threads" for run in record.runs))


def page(found: Mapping[str, Record | None]) -> str:
    """docs/records.md."""
    parts = [ABOUT_RECORDS]
    for key, title in (("ptb", "Penn Treebank"), ("default", "Default corpus")):
        entries = [
            (int(match["minutes"]), name, record)
            for name, record in found.items()
            if (match := BUDGET.match(name)) and match["corpus"] == key
        ]
        # `exact` first.
        entries.sort(key=lambda entry: (entry[0], entry[2] is not None and entry[2].precision != "exact", entry[1]))
        header = [
            "minutes",
            "test perplexity",
            "95% interval",
            "each seed",
            "adapted",
            "slowest run",
            "precision",
            "processor",
            "commit",
            "date",
            "command",
        ]
        parts += [f"## {title}\n", markdown_table([header, *(_row(*entry) for entry in entries)]) + "\n"]
    others = [
        [name, first_line(name, record).partition(": `")[0]] for name, record in found.items() if not BUDGET.match(name)
    ]
    parts += ["## Recipes without a budget\n", markdown_table([["recipe", "what it gives"], *others]) + "\n"]
    curves = [
        [name, model, ", ".join(f"{value:.1f}" for value in figures.curve)]
        for name, record in found.items()
        if record
        for model, figures in record.median.models.items()
        if figures.curve
    ]
    parts += [ABOUT_CURVES, markdown_table([["recipe", "model", "validation perplexity"], *curves])]
    return "\n".join(parts) + "\n"


def _row(budget: int, name: str, record: Record | None) -> list[str]:
    if record is None:
        return [str(budget), "not measured yet", *["-"] * 8, f"`rnnlm recipe {name}`"]
    figures, runs = record.median.best, record.runs
    interval = "-" if figures.test_low is None else f"{figures.test_low:.1f} to {figures.test_high:.1f}"
    adapted = f"{statistics.median_low(record.adapted):.1f}" if record.adapted else "-"

    def each(of: Callable[[ProvedRun], str]) -> str:
        return ", ".join(dict.fromkeys(map(of, runs)))

    seeds = ", ".join(f"{value:.1f}" for value in record.static)
    return [
        *(str(budget), f"{figures.test:.1f}", interval, seeds, adapted, f"{record.minutes:.1f} min"),
        *(record.precision, _machines(record), each(lambda run: run.commit[:12]), each(lambda run: run.date)),
        f"`{record.command}`",
    ]


def write_pages() -> Iterable[Path]:
    """Write the record book, and the first line of each recipe's README; yields the files that changed."""
    found = records()
    texts = {RECORD_BOOK: page(found)}
    for name, record in found.items():
        readme = RECIPES / name / "README.md"
        _, _, rest = readme.read_text(encoding="utf-8").partition("\n")
        texts[readme] = f"{first_line(name, record)}\n{rest}"
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            yield path


if __name__ == "__main__":
    run(lambda: print("\n".join(map(str, write_pages())), file=sys.stdout))
