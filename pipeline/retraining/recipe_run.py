"""A recipe applied: the models of recipes/NAME/params.yaml, trained and evaluated beside the project's own.

A recipe's params.yaml has what differs from the project's, so that a parameter that comes later has its default there.
All runs in a git worktree of the last commit, .rnnlm/recipes/NAME, with the DVC cache of this checkout: params.yaml,
dvc.lock and data/ stay as they are. `dvc exp run --temp` would do that too, but works in a new folder each time, where
neither a checkpoint nor a result is found again.
"""

import io
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ, pathsep
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.evaluation.adapted_rows import chosen_in_words, with_adapted
from pipeline.evaluation.results import Row, about_intervals, comparison_table, table_cells
from pipeline.params import Params, check_params, put, read_params
from pipeline.provenance import git
from pipeline.provenance.dvc import DVC, repository
from pipeline.review.overview import FIGURE_COLUMNS, INTERVAL
from pipeline.runtime.errors import InputError, one_line
from pipeline.runtime.files import write_text
from pipeline.runtime.locks import one_at_a_time
from pipeline.runtime.paths import EVALUATION, MODELS, REPORT, TIMINGS
from pipeline.runtime.stopping import raise_if_stopped, run_child, stopped_by_signals
from pipeline.tracking.store import OTHER_EXPERIMENT, is_off, tracking_uri

RECIPES = Path("recipes")
# What DVC restored from its cache is not in the recipe's experiment yet; MLflow's failure is a warning.
SYNC = """
from pipeline.tracking.store import BestEffort
from pipeline.tracking.sync import sync
BestEffort()(sync)
"""


@dataclass(frozen=True)
class RecipeRun:
    """What applying a recipe gave: figures, and where the rest lies."""

    name: str
    folder: Path  # the project's files as the recipe made them
    commit: str
    minutes: float  # of wall clock, in this call
    rows: list[Row]  # the baselines and the models
    cells: list[str]

    @property
    def models(self) -> dict[str, str]:
        """The folders of the models, for `--model`."""
        return {name: str(self.folder / MODELS / name) for name in self.cells}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The figures as text: the header, and a line for each model."""
        header, *lines = table_cells(with_adapted(self.rows), with_times=True)
        named = [INTERVAL if name == about_intervals(self.rows[0].metrics) else name for name in header]
        shown = [index for index, name in enumerate(named) if name in FIGURE_COLUMNS]
        first, *others = ([line[index] for index in shown] for line in (named, *lines))
        return first, others

    def lines(self) -> list[str]:
        """What a person reads below the table."""
        best = next(row.model for row in self.rows if row.best)
        return [
            f"{about_intervals(self.rows[0].metrics)}; best on validation: {best}.",
            *(f"{line}." for line in chosen_in_words(self.rows)),
            f"{self.minutes:.1f} minutes, commit {self.commit[:12]}.",
            f"Models: {self.folder / MODELS}/NAME; `rnnlm generate --model {self.models[best]}`",
            f"Report: {self.folder / REPORT}/index.html; its parameters: {self.folder}/params.yaml",
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs: metrics.json of each model beside what only networks have."""
        of_networks = ("valid_perplexity", "epochs", "seconds", "best")
        figures = {row.model: row.metrics | {key: getattr(row, key) for key in of_networks} for row in self.rows}
        places = {"folder": str(self.folder), "models": self.models, "report": str(self.folder / REPORT)}
        return {"recipe": self.name, "commit": self.commit, "minutes": self.minutes, **places, "figures": figures}


def recipes() -> dict[str, str]:
    """The recipes there are, by name: the first line of each one's README."""
    found = sorted(path.parent for path in RECIPES.glob("*/params.yaml"))
    return {folder.name: _first_line(folder / "README.md") for folder in found}


def _first_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.lstrip("# ") for line in lines if line.strip()), "no README.md")


def recipe_params(name: str, changes: Sequence[str] = ()) -> tuple[dict[str, Any], Params]:
    """All parameters of a recipe, as a mapping and checked: its own, those of the last commit, and `changes` to both.

    Args:
        name: of a folder of recipes/.
        changes: `KEY=VALUE` each, such as `train.epochs=2`; values are YAML.

    Raises:
        InputError: there is no such recipe, or a key or value does not fit.
    """
    path = RECIPES / name / "params.yaml"
    if name not in recipes():
        raise InputError(f"no recipe {name!r}; there are: {', '.join(recipes())}")
    committed = git.output("show", "HEAD:./params.yaml")
    content = _merged(YAML(typ="safe").load(committed), read_params(path))
    for change in changes:
        key, equals, text = change.removeprefix("+").partition("=")  # `+`: as `dvc exp run` wants a new key
        if not equals or not all(key.split(".")):
            raise InputError(f"-S {change!r}: expected KEY=VALUE, such as train.epochs=2")
        value = _value(change, text)
        try:
            put(content, key, value)
        except InputError as error:
            raise InputError(f"-S {error}") from None
    where = f"{path}{' with -S' if changes else ''}"
    params = check_params(content, where)
    if params.download.source == "files" and "://" not in params.download.path:
        # The worktree has only what git tracks.
        corpus = Path(params.download.path).absolute()
        if not corpus.exists():
            raise InputError(f"{where}: download.path: {corpus} does not exist")
        content["download"]["path"] = str(corpus)
    return content, params


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `changes` has of its keys; `cells` is the recipe's alone."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping) and key != "cells":
            value = _merged(inner, value)
        merged[key] = value
    return merged


def _value(change: str, text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        raise InputError(f"-S {change!r}: the value is not YAML: {one_line(error)}") from None


def apply_recipe(name: str, changes: Sequence[str] = (), afresh: bool = False) -> RecipeRun:
    """Train and evaluate a recipe's models, or go on where an earlier call was stopped.

    Args:
        name: of a folder of recipes/.
        changes: as in `recipe_params`.
        afresh: run every stage, whatever earlier calls and DVC's cache have.

    Raises:
        InputError: the recipe does not fit, it is running already, or a stage fails.
        StoppedError: SIGTERM, SIGHUP or Ctrl-C came.
    """
    started = time.monotonic()
    content, params = recipe_params(name, changes)
    with stopped_by_signals(), _laid_out(name, afresh) as project:
        _write_params(project, content)
        environment = _environment(project, name)
        options = ["--force", "--no-run-cache"] if afresh else []
        command = [*DVC, "repro", *options]
        done = run_child(command, cwd=project, env=environment, stdout=sys.stderr, stderr=None)
        if done.returncode:
            raise InputError(f"a stage of recipe {name} failed; its message stands above, and another call goes on")
        cells = list(params.cells)
        rows = comparison_table(project / EVALUATION, project / MODELS, cells, project / TIMINGS)
        if any(row.seconds is None for row in rows if row.epochs) and not is_off():
            run_child([sys.executable, "-c", SYNC], cwd=project, env=environment, stdout=sys.stderr, stderr=None)
        raise_if_stopped("run the command again")
        commit = git.output("-C", str(project), "rev-parse", "HEAD")
    return RecipeRun(name, project.relative_to(Path.cwd()), commit, (time.monotonic() - started) / 60, rows, cells)


@contextmanager
def _laid_out(name: str, afresh: bool) -> Iterator[Path]:
    """The project of the last commit in the recipe's worktree, with the DVC cache of this one."""
    tree = (git.RECIPE_RUNS / name).resolve()
    taken = f"recipe {name} is already running in this folder; wait until that has ended"
    with one_at_a_time(git.RECIPE_RUNS / f"{name}.lock", taken):
        changed = git.changed_inputs(new=False)
        if left_out := [path for path in changed if not path.startswith(f"{RECIPES}/")]:
            told = ", ".join(left_out[:3]) + (", ..." if left_out[3:] else "")
            print(f"note: recipes run the last commit, without the changes of {told}", file=sys.stderr, flush=True)
        if afresh:
            git.remove_worktree(tree)
        project = git.kept_worktree(tree)
        with repository() as repo:
            write_text(project / ".dvc/config.local", f"[cache]\n    dir = {Path(repo.cache.local.path).resolve()}\n")
        yield project


def _write_params(project: Path, content: Mapping[str, Any]) -> None:
    written = io.StringIO()
    YAML().dump(content, written)
    write_text(project / "params.yaml", f"# Those of the last commit, changed by the recipe.\n{written.getvalue()}")


def _environment(project: Path, name: str) -> dict[str, str]:
    """Variables for the stages: this checkout's store, and an experiment of the recipe's own."""
    kept = {key: value for key, value in environ.items() if not key.startswith("DVC_")}
    kept |= {"MLFLOW_TRACKING_URI": tracking_uri(), OTHER_EXPERIMENT: f"recipe {name}", "PYTHONPATH": str(project)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{pathsep}{kept.get('PATH', '')}"}
