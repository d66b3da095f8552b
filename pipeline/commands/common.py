"""What several commands share: the project around them, its store, the model that is named, options, JSON."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODELS

if TYPE_CHECKING:
    import numpy as np

    from pipeline.inference.predictor import Predictor
    from pipeline.model.folder import SavedModel
    from pipeline.params import Params
    from pipeline.tracking.store import Store

MODEL_NAMES = (
    "a cell such as lstm, champion, challenger, a version such as v3, or a run's id, its first characters or name"
)


def models_here() -> list[str]:
    """The models that lie in data/models, by name."""
    return sorted(path.name for path in MODELS.iterdir()) if MODELS.is_dir() else []


def _names() -> list[str]:
    """What shells complete names with."""
    return [*models_here(), "champion", "challenger"]


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"{MODEL_NAMES}, or a model's folder; default: the best on validation",
        autocompletion=_names,
    ),
]
RunArgument = Annotated[str, typer.Argument(help=MODEL_NAMES, autocompletion=_names)]
WideOption = Annotated[bool, typer.Option("--wide", help="all columns")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="print JSON, an object on each line")]


class Row(Protocol):
    """What a command prints a line for: a NamedTuple that says how it is shown."""

    def row(self) -> str:
        """Tab-separated."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\n".join(("Examples:", *(f"  {command}" for command in commands)))


_warned: set[tuple[Path, str]] = set()  # of a branch that was left, by folder: some commands enter the project twice


def enter_project() -> "Params":
    """Change to the project's folder, this one or one above, and read its parameters."""
    from pipeline.params import load_params
    from pipeline.provenance.git import left_branch

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            os.chdir(folder)
            if (branch := left_branch()) and (folder, branch) not in _warned:
                _warned.add((folder, branch))
                print(
                    f"warning: git is on no branch, as `dvc exp run` leaves it while it runs and when it is killed; "
                    f"once it has ended, `git switch {branch}` before you commit",
                    file=sys.stderr,
                )
            return load_params()
    raise InputError(f"no dvc.yaml and params.yaml in {here} or above it; run the command inside the project")


def refuse_in_ci(option: str, given: bool) -> None:
    """Raise InputError where an option that only a person may give is given in CI."""
    if given and os.environ.get("CI"):
        raise InputError(f"{option} is a person's decision, and CI is set here; run it on your machine")


@contextmanager
def project_store(moved: bool = False) -> "Iterator[tuple[Store, Params]]":
    """The project's store and parameters; `moved` as in `open_store`."""
    from pipeline.tracking.store import open_store

    params = enter_project()
    with open_store(moved) as store:
        yield store, params


def predictor_called(model: str | None) -> "Predictor":
    """The model that `--model` names, in use."""
    from pipeline.inference.predictor import Predictor
    from pipeline.runtime.exactness import warn_if_not_exact

    warn_if_not_exact(numpy=False)
    return Predictor(saved_model_called(model))


def saved_model_called(model: str | None) -> "SavedModel":
    """The model that `--model` names; a folder needs no project around it."""
    from pipeline.model.folder import load_model

    if model == "":
        raise InputError(f"--model names nothing; it takes {MODEL_NAMES}")
    if model is not None and not model.startswith("models:") and (Path(model).parts != (model,) or model == ".."):
        if not Path(model).exists():
            raise InputError(f"--model {model}: no such folder{_nearest(Path(model))}")
        return load_model(Path(model))
    from pipeline.review.names import model_called

    here = Path.cwd()
    cells = enter_project().cells
    name = best_model() if model is None or (model in cells and not models_here()) else model
    return load_model(MODELS / name) if name in cells else model_called(name, here / name)


def _nearest(folder: Path) -> str:
    """A question about the folders that lie where this one does not, and are nearly called so."""
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    near = [str(folder.with_name(name)) for name in get_close_matches(folder.name, beside)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def best_model() -> str:
    """The name of the project's best model, on the validation split.

    Raises:
        InputError: none is trained yet, or one is missing.
    """
    from pipeline.training.history import HISTORY_FILE, best_cell

    cells = list(enter_project().cells)
    if not any((MODELS / name / HISTORY_FILE).exists() for name in cells):
        raise InputError(f"no model is trained yet: `dvc repro` trains those of params.yaml ({', '.join(cells)})")
    return best_cell(MODELS, cells)


def unknown_types_for(model: "Predictor | SavedModel") -> "np.ndarray":
    """Word types of the project's corpus that the model does not know, as hashes; see word_types.py."""
    from pipeline.inference.scoring import unknown_types_of
    from pipeline.inference.word_types import check_reads_corpus
    from pipeline.model.folder import TextRules
    from pipeline.provenance.dvc import current_tokens

    check_reads_corpus(model.text, TextRules.of(enter_project().tokenize))
    return unknown_types_of(current_tokens(), model.vocabulary)


def print_json(value: object) -> None:
    """Print what a program reads; NaN and infinities are no JSON."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_lines(lines: Iterable[str], as_json: bool) -> None:
    """Print lines as they come, or all as a list in JSON."""
    if as_json:
        print_json(list(lines))
    else:
        from pipeline.runtime.terminal import show_text

        for line in lines:
            show_text(line)
            sys.stdout.flush()


def print_rows(what: str, parts: Iterable[Sequence[Row]], as_json: bool) -> None:
    """Print rows, each part as soon as it is there; the progress of `what` is shown where they go elsewhere."""
    from pipeline.runtime.progress import progress_bar

    out = sys.stdout  # a bar in the terminal puts another in its place
    with nullcontext() if out.isatty() else progress_bar(what, None, "rows") as bar:
        for rows in parts:
            for row in rows:
                print(json.dumps(row._asdict(), allow_nan=False) if as_json else row.row(), file=out)
            out.flush()
            if bar:
                bar.advance(len(rows))
