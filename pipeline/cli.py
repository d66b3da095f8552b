"""The `rnnlm` command: what a person does with the trained models. Heavy imports wait inside the commands."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.runtime.errors import InputError
from pipeline.runtime.stage import run

if TYPE_CHECKING:
    from pipeline.inference.predictor import Predictor
    from pipeline.params import Params

MODELS, EVALUATION = Path("data/models"), Path("data/evaluation")
TIMINGS = Path(".rnnlm/timings")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Use and inspect the trained language models.")
MODEL_HELP = "a name in data/models, a folder, or models:/... as MLflow calls it; the best on validation if absent"
ModelOption = Annotated[str | None, typer.Option("--model", help=MODEL_HELP)]
RunArgument = Annotated[
    str, typer.Argument(help="an id or its first characters, a name, champion, challenger, or a version such as v3")
]
JsonOption = Annotated[bool, typer.Option("--json", help="for programs")]


class Start(StrEnum):
    """Where `rnnlm reproduce` begins."""

    train = "train"
    download = "download"


@app.command()
def generate(
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="sentences")] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    temperature: Annotated[float, typer.Option(min=1e-6, help="below 1: likelier words")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw from the k likeliest words only")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="words; evaluate.max_length if absent")] = None,
    prompt: Annotated[str, typer.Option(help="what every sentence begins with")] = "",
) -> None:
    """Write sentences, one a line."""
    from pipeline.inference.generation import Decoding, readable

    predictor = _predictor(model)
    decoding = Decoding(temperature, top_k, max_length or _project().evaluate.max_length, seed)
    (sentences,) = predictor.generate(predictor.tokens([prompt]), count, decoding)
    for tokens in sentences:
        print(readable(tokens))


@app.command()
def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="one sentence a line, UTF-8; - reads standard input")],
    model: ModelOption = None,
) -> None:
    """Score sentences: for each line its natural-log probability, a tab, and its number of tokens, the end included."""
    lines = _lines(file)
    predictor = _predictor(model)
    scores = predictor.score(predictor.encode(predictor.tokens(lines)), "score").sentences
    for nats, tokens in zip(scores.nats, scores.tokens, strict=True):
        print(f"{-nats:.6f}\t{tokens}")


@app.command()
def suggest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the text so far")],
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="words")] = 5,
) -> None:
    """Suggest the next word: a word, a tab, its probability; the likeliest first."""
    predictor = _predictor(model)
    (words,) = predictor.suggest(predictor.tokens([text]), count)
    for word, probability in words:
        print(f"{word}\t{probability:.4f}")


@app.command()
def table() -> None:
    """Compare all models: test perplexity with its interval, accuracy, parameters, training time on this machine."""
    from pipeline.evaluation.results import comparison_table, table_cells
    from pipeline.runtime.terminal import show_table

    params = _project()
    header, *rows = table_cells(comparison_table(EVALUATION, MODELS, list(params.cells), TIMINGS), with_times=True)
    show_table(header, rows)


@app.command()
def runs(
    limit: Annotated[int | None, typer.Option(min=1, help="the newest; all if absent", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs in MLflow, the newest first: what differs, figures with intervals, code, model, version."""
    from pipeline.review.listing import list_runs
    from pipeline.review.tables import show_runs
    from pipeline.tracking.store import open_store

    _project()
    with open_store() as store:
        listed = list_runs(store, limit)
    if as_json:
        _print_json([run.as_json() for run in listed])
    else:
        show_runs(listed)


@app.command()
def compare(a: RunArgument, b: RunArgument, as_json: JsonOption = False) -> None:
    """Say what differs between two runs, and whether B is really better than A: a paired test on the same sentences."""
    from pipeline.review.comparison import compare_models
    from pipeline.review.differences import differences
    from pipeline.review.listing import find, listed_run
    from pipeline.review.tables import show_comparison, show_differences
    from pipeline.tracking.store import open_store

    params = _project()
    with open_store() as store:
        first, second = find(store, a), find(store, b)
        a_listed, b_listed = listed_run(store, first), listed_run(store, second)
        found, compared, refusal = differences(store, first, second), None, None
        try:
            compared = compare_models(store, first, second, params)
        except InputError as error:
            refusal = error  # what differs can be said all the same
    if as_json:
        _print_json(
            {"a": a_listed.as_json(), "b": b_listed.as_json(), **vars(found), "test": compared and compared.as_json()}
        )
    else:
        show_differences(a_listed, b_listed, found)
        if compared is not None:
            show_comparison(compared)
    if refusal is not None:
        raise refusal


@app.command()
def promote(
    confidence: Annotated[float, typer.Option(min=0.5, max=1, help="that it is better, needed to promote")] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Make the challenger champion if it beats the champion on the test sentences with the confidence asked for."""
    from pipeline.review.promotion import carry_out, decide
    from pipeline.tracking.store import open_store
    from pipeline.tracking.sync import sync as bring_up_to_date

    params = _project()
    with open_store() as store:
        bring_up_to_date(store)
        verdict = decide(store, confidence, params)
        carry_out(store, verdict)
    if as_json:
        _print_json(verdict.as_json())
    else:
        print(f"v{verdict.challenger}: {verdict.outcome}. {verdict.reason}")


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="for the pages of both versions in MLflow")] = "",
) -> None:
    """Make the champion before this one champion again."""
    from pipeline.review.promotion import rollback as go_back
    from pipeline.tracking.store import open_store

    _project()
    with open_store() as store:
        left, champion = go_back(store, reason)
    print(f"v{champion} is champion again, in place of v{left}")


@app.command("reproduce")
def make_again(
    run: RunArgument,
    start: Annotated[Start, typer.Option("--from", help="restore the data that was trained on, or make it again")] = (
        Start.train
    ),
    as_json: JsonOption = False,
) -> None:
    """Make a run again from its commit and its data, and say whether the same comes out.

    Status 0: every file has the same bytes; 10: its perplexity is the same within 2%; 11: it is different.
    """
    from pipeline.review.listing import find
    from pipeline.review.reproduce import STATUS, reproduce
    from pipeline.tracking.store import open_store

    _project()
    with open_store() as store:
        result = reproduce(store, find(store, run), start.value)
    if as_json:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    sys.exit(STATUS[result.verdict])


@app.command()
def retrain(
    branch: Annotated[str, typer.Option(help="of git, for the results; made where there is none")] = "retrained",
    output: Annotated[Path, typer.Option(help="folder of report.md and retrain.json")] = Path(".rnnlm/retrain"),
    exit_code: Annotated[bool, typer.Option("--exit-code", help="10: nothing to do, 11: not promoted")] = False,
) -> None:
    """Run what changed, and promote the new model if it is better: what CI calls.

    Status 0, unless a step fails; the verdict is in retrain.json. This checkout goes to the branch.
    """
    from pipeline.retraining.retrain import retrain as bring_up_to_date

    _project()
    verdict = bring_up_to_date(branch, output).judgement.verdict
    sys.exit({"unchanged": 10, "kept": 11}.get(verdict, 0) if exit_code else 0)


@app.command()
def sync() -> None:
    """Bring MLflow up to what lies in data/: runs that DVC restored from its cache, or that MLflow missed."""
    from pipeline.tracking.store import BestEffort
    from pipeline.tracking.sync import sync as bring_up_to_date

    _project()
    for line in BestEffort()(bring_up_to_date) or []:
        print(line)


@app.command()
def relocate() -> None:
    """Make MLflow's database find its artifacts again after the project was moved or copied."""
    from pipeline.tracking.relocation import relocate as put_right
    from pipeline.tracking.store import open_store, tracking_uri

    _project()
    with open_store(moved=True) as store:
        print(put_right(tracking_uri(), store.client.get_experiment(store.experiment_id).artifact_location))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    browser: Annotated[bool, typer.Option(help="open it in the browser too, where there is a screen")] = True,
) -> None:
    """Serve MLflow's pages over this project's runs on this machine, until Ctrl-C."""
    from pipeline.review.ui import serve
    from pipeline.tracking.store import open_store

    _project()
    with open_store() as store:
        serve(store, port, browser)


def main() -> None:
    """Run the command line; what the user can mend ends in one line and status 1."""
    run(lambda: app())


def _project() -> "Params":
    """Go to the project's folder, here or above, and read its parameters."""
    from pipeline.params import load_params

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            os.chdir(folder)
            return load_params()
    raise InputError(f"no dvc.yaml and params.yaml in {here} or above it; run the command inside the project")


def _predictor(model: str | None) -> "Predictor":
    """The model that `--model` names; a folder needs no project around it."""
    from pipeline.inference.predictor import Predictor

    if model is not None and model.startswith("models:"):
        from pipeline.tracking.logged_model import read_model
        from pipeline.tracking.store import open_store

        _project()
        with open_store() as store:
            return Predictor(read_model(store, model, model))
    if model is not None and Path(model).parts != (model,):
        return Predictor.load(Path(model))
    from pipeline.training.history import best_cell

    cells = list(_project().cells)
    name = model or best_cell(MODELS, cells)
    if name not in cells and not (MODELS / name).is_dir():
        raise InputError(f"no model named {name!r} in {MODELS}; name one such as {cells[0]}, or a folder, with a slash")
    return Predictor.load(MODELS / name)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _lines(file: str) -> list[str]:
    """The lines of a file, or of standard input for `-`, without their ends."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is no file; name one with a sentence a line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
