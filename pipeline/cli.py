"""The `rnnlm` command: what a person does with the trained models. Each command imports what it needs when it runs."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODELS
from pipeline.runtime.settings import (
    compute_the_same_everywhere,
    limit_spinning,
    limit_threads,
    write_what_the_terminal_can_show,
)
from pipeline.runtime.stage import run

if TYPE_CHECKING:
    import numpy as np

    from pipeline.inference.predictor import Predictor
    from pipeline.model.folder import SavedModel
    from pipeline.params import Params
    from pipeline.tracking.store import Store

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Use and inspect the trained language models.")
MODEL_NAMES = (
    "a cell such as lstm, champion, challenger, a version such as v3, or a run's id, its first characters or name"
)
ModelOption = Annotated[
    str | None, typer.Option("--model", help=f"{MODEL_NAMES}, or a model's folder; default: the best on validation")
]
RunArgument = Annotated[str, typer.Argument(help=MODEL_NAMES)]
WideOption = Annotated[bool, typer.Option("--wide", help="all columns")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def generate(
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of sentences")] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    temperature: Annotated[float, typer.Option(min=1e-6, help="below 1 favours likely words")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw only from the k likeliest words")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="in words; default: evaluate.max_length")] = None,
    prompt: Annotated[str, typer.Option(help="how every sentence begins")] = "",
) -> None:
    """Generate sentences, one per line."""
    from pipeline.inference.generation import Decoding, readable

    predictor = _predictor(model)
    try:
        decoding = Decoding(temperature, top_k, max_length or _project().evaluate.max_length, seed)
    except InputError as error:  # the folder of a model needs no project around it
        raise InputError(f"{error}, or give --max-length") from None
    (sentences,) = predictor.generate(predictor.tokens([prompt]), count, decoding)
    for tokens in sentences:
        print(readable(tokens))


@app.command()
def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="UTF-8, one sentence per line; - for standard input")],
    model: ModelOption = None,
    over_types: Annotated[
        bool,
        typer.Option("--over-types", help="share the probability of unknown words among those of the corpus and FILE"),
    ] = False,
) -> None:
    """Score sentences: print each line's natural-log probability, its tokens, counting the end, and how many of these
    are words that the model does not know; tab-separated.

    All unknown words have one probability together, unless --over-types: then a line is charged for naming them.
    """
    from pipeline.evaluation.paired import nats_over_types
    from pipeline.inference.scoring import score_split, several_sentences
    from pipeline.inference.word_types import unknown_types_with

    lines = _lines(file)
    predictor = _predictor(model)
    sentences = predictor.tokens(lines)
    scores = score_split(predictor, predictor.encode(sentences), "score").sentences
    nats = scores.nats
    if over_types:
        types = unknown_types_with(_unknown_types(predictor), predictor.vocabulary, sentences)
        nats = nats_over_types(nats, scores.unknown, types)
    for spent, tokens, unknown in zip(nats, scores.tokens, scores.unknown, strict=True):
        print(f"{-spent:.6f}\t{tokens}\t{unknown}")
    if remark := several_sentences(lines):
        print(remark, file=sys.stderr)


@app.command()
def suggest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the text so far")],
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of words")] = 5,
) -> None:
    """Suggest the next word: print words and probabilities, tab-separated, the likeliest first."""
    predictor = _predictor(model)
    (words,) = predictor.suggest(predictor.tokens([text]), count)
    for word, probability in words:
        print(f"{word}\t{probability:.4f}")


@app.command()
def table(wide: WideOption = False) -> None:
    """Compare all models: test perplexity with its interval, parameters, training time on this machine."""
    from pipeline.review.overview import overview
    from pipeline.runtime.terminal import show_table, show_text

    shown = overview(_project(), wide)
    show_text(*shown.about)
    show_table(shown.models[0], shown.models[1:])
    show_text(*shown.remarks)
    if shown.seeds:
        show_table(shown.seeds[0], shown.seeds[1:])


@app.command()
def runs(
    limit: Annotated[int | None, typer.Option(min=1, help="only the newest; default: all", show_default=False)] = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs in MLflow, newest first; `rnnlm show RUN` has all of one."""
    from pipeline.review.listing import list_runs
    from pipeline.review.tables import show_runs

    with _store() as (store, _):
        listed = list_runs(store, store.runs(limit))
    if as_json:
        _print_json([run.as_json() for run in listed])
    else:
        show_runs(listed, wide)


@app.command()
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show all of one run in MLflow: figures with intervals, settings, code, model, version, machine."""
    from pipeline.review.listing import list_runs
    from pipeline.review.names import find
    from pipeline.review.tables import show_run

    with _store() as (store, _):
        (listed,) = list_runs(store, [find(store, run)])
    if as_json:
        _print_json(listed.as_json())
    else:
        show_run(listed)


@app.command()
def compare(
    a: RunArgument,
    b: RunArgument,
    models: Annotated[bool, typer.Option("--models", help="these two, whatever other seeds there are")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two runs, and test whether B is better than A, paired on the same sentences.

    Where both have runs of other seeds, their recipes are compared, over seeds and documents.
    """
    from pipeline.review.comparison import compare_models, compare_recipes, runs_of_recipe
    from pipeline.review.differences import differences
    from pipeline.review.listing import list_runs
    from pipeline.review.names import find
    from pipeline.review.tables import show_comparison, show_differences
    from pipeline.tracking.runs import SEED_GROUP

    with _store() as (store, params):
        first, second = find(store, a), find(store, b)
        row_a, row_b = list_runs(store, [first, second])
        found, compared, refusal = differences(store, first, second), None, None
        try:
            seeds_a, seeds_b = ([run] if models else runs_of_recipe(store, run) for run in (first, second))
            same = first.data.tags.get(SEED_GROUP) == second.data.tags.get(SEED_GROUP)
            if same or min(len(seeds_a), len(seeds_b)) < 2:
                compared = compare_models(store, first, second, params)
            else:
                compared = compare_recipes(store, seeds_a, seeds_b, params)
        except InputError as error:
            refusal = error  # show the differences all the same
    if as_json:
        test = compared and compared.as_json()
        _print_json({"a": row_a.as_json(), "b": row_b.as_json(), **vars(found), "test": test})
    else:
        show_differences(row_a, row_b, found)
        if compared is not None:
            show_comparison(compared)
    if refusal is not None:
        raise refusal


@app.command()
def promote(
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=1, help="of the two-sided interval that has to speak for it, if not retrain.confidence"
        ),
    ] = None,
    without_old_sentences: Annotated[
        bool,
        typer.Option(
            "--without-old-sentences",
            help="promote also where the text that the two were trained on is lost; refused in CI",
        ),
    ] = False,
    without_ngram: Annotated[
        bool, typer.Option("--without-ngram", help="promote also what is no better than counting; refused in CI")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the challenger champion if it surely beats the champion, and counting, on the test sentences."""
    from pipeline.review.challenger import bring_up_to_date
    from pipeline.review.conditions import WITHOUT_NGRAM, WITHOUT_OLD_SENTENCES
    from pipeline.review.promotion import carry_out, decide, the_challenger

    _refuse_in_ci(WITHOUT_OLD_SENTENCES, without_old_sentences)
    _refuse_in_ci(WITHOUT_NGRAM, without_ngram)
    with _store() as (store, params):
        for line in bring_up_to_date(store):
            print(line, file=sys.stderr)
        needed = params.retrain.confidence if confidence is None else confidence
        verdict = decide(store, the_challenger(store), needed, params, without_old_sentences, without_ngram)
        carry_out(store, verdict)
    if as_json:
        _print_json(verdict.as_json())
    else:
        print(f"v{verdict.challenger}: {verdict.outcome}. {verdict.reason}")


@app.command()
def rollback(reason: Annotated[str, typer.Option(help="for both versions' pages in MLflow")] = "") -> None:
    """Restore the previous champion."""
    from pipeline.review import promotion

    with _store() as (store, _):
        left, champion = promotion.rollback(store, reason)
    print(f"v{champion} is champion again, in place of v{left}")


@app.command()
def reproduce(
    run: RunArgument,
    start: Annotated[
        Literal["train", "download"],
        typer.Option("--from", help="train: restore the data it was trained on; download: rebuild that too"),
    ] = "train",
    trust: Annotated[bool, typer.Option("--trust", help="run a patch from a store that others can write, too")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a run from its commit and data, and say whether the result is the same.

    Exit status 0: every file has the same bytes; 10: the same model, rounded otherwise; 11: it differs.
    """
    from pipeline.review import reproduce as reproduction
    from pipeline.review.names import find

    with _store() as (store, _):
        result = reproduction.reproduce(store, find(store, run), start, trust)
    if as_json:
        _print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    sys.exit(reproduction.STATUS[result.verdict])


@app.command()
def data(run: RunArgument, folder: Annotated[Path, typer.Argument(help="a new folder")]) -> None:
    """Bring back the exact text, vocabulary and splits that a run was made from, by their hashes, from DVC."""
    from pipeline.review.names import find
    from pipeline.review.run_data import restore_data

    folder = folder.absolute()
    with _store() as (store, _):
        for path in restore_data(store, find(store, run).info.run_id, folder):
            print(folder / path)


@app.command()
def verify() -> None:
    """Compare every byte of the results in data/ with dvc.lock, whether or not DVC's cache has them.

    Exit status 1: one is missing, or is not what dvc.lock says.
    """
    from pipeline.provenance.verification import outputs_unlike_lock

    _project()
    count, others = outputs_unlike_lock()
    for path, what in others.items():
        print(f"{path}: {what}")
    print(f"{count - len(others)} of {count} results are as dvc.lock says")
    sys.exit(1 if others else 0)


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train() -> None:
    """Say what trains: without this command, `retrain` would be suggested, which commits to another branch."""
    raise InputError("models are trained by the pipeline: `dvc repro` runs what is out of date, as `make repro` does")


@app.command()
def retrain(
    branch: Annotated[str, typer.Option(help="git branch for the results; created if missing")] = "retrained",
    output: Annotated[Path, typer.Option(help="folder for report.md and retrain.json")] = Path(".rnnlm/retrain"),
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit 10: nothing to do, 11: not promoted")] = False,
    without_old_sentences: Annotated[
        bool,
        typer.Option(
            "--without-old-sentences",
            help="promote also where the champion's text is lost; once, by a person: refused in CI",
        ),
    ] = False,
) -> None:
    """Run what changed, and promote the new model if it is better; made for CI.

    Exits with 0 unless a step fails; the verdict is in retrain.json. This checkout switches to the branch.
    """
    from pipeline.retraining import retrain
    from pipeline.review.conditions import WITHOUT_OLD_SENTENCES

    _project()
    _refuse_in_ci(WITHOUT_OLD_SENTENCES, without_old_sentences)
    verdict = retrain.retrain(branch, output, without_old_sentences).judgement.verdict
    sys.exit({"unchanged": 10, "kept": 11}.get(verdict, 0) if exit_code else 0)


@app.command()
def sync() -> None:
    """Add to MLflow what is in data/ but not there: runs that DVC restored from its cache, or that MLflow missed."""
    from pipeline.review.challenger import bring_up_to_date
    from pipeline.tracking.store import is_off

    _project()
    if is_off():
        print("skipped, as RNNLM_TRACKING is off")
        return
    with _store() as (store, _):
        for line in bring_up_to_date(store):
            print(line)


@app.command()
def relocate() -> None:
    """Let MLflow's database find its artifacts again after the project was moved or copied."""
    from pipeline.tracking import relocation
    from pipeline.tracking.store import tracking_uri

    with _store(moved=True) as (store, _):
        artifacts = store.client.get_experiment(store.experiment_id).artifact_location
        print(relocation.relocate(tracking_uri(), artifacts))


@app.command()
def backup(file: Annotated[Path, typer.Argument(metavar="FILE", help="a new tar file")]) -> None:
    """Write MLflow's whole store, runs, champions and models, to one file; also while runs are being written."""
    from pipeline.tracking.backup import back_up

    file = file.absolute()
    _project()
    print(back_up(file))


@app.command()
def restore(file: Annotated[Path, typer.Argument(metavar="FILE", help="what `rnnlm backup` wrote")]) -> None:
    """Put back MLflow's store from a backup, where there is none; every byte is checked before anything is written."""
    from pipeline.tracking.backup import restore_backup

    file = file.absolute()
    _project()
    print(restore_backup(file))


@app.command()
def gc(
    days: Annotated[int, typer.Option("--older-than", min=1, metavar="DAYS", help="nothing younger goes")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="free it; otherwise only say what would be freed")] = False,
) -> None:
    """Free what nobody needs any more: old models of no rank, data of no commit or run, old checkpoints, leftovers."""
    from pipeline.review.cleaning import in_words, leftovers
    from pipeline.runtime.stopping import heeded_signals, raise_if_stopped
    from pipeline.tracking.backup import store_lock

    with _store() as (store, _), store_lock(), heeded_signals():
        found = leftovers(store, days)
        if not found:
            print(f"nothing to free: all that is older than {days} days is needed")
            return
        print("\n".join(in_words(found)))
        if yes:
            for item in found:
                raise_if_stopped("the rest stays")
                item.free()
    print("freed" if yes else "nothing was freed yet; `rnnlm gc --yes` frees it")


@app.command()
def corpus(
    path: Annotated[str | None, typer.Argument(help="a file, folder or URL; default: what params.yaml says")] = None,
    text_column: Annotated[str | None, typer.Option(help="of tables; default: download.text_column")] = None,
) -> None:
    """Show what would be read and trained on, before anything is; nothing changes."""
    from pipeline.review.preview import look

    where = path and (path if "://" in path else str(Path(path).resolve()))
    params = _project()
    changes = {"source": "files", "path": where} if where else {}
    changes |= {"text_column": text_column} if text_column else {}
    download = params.download.model_copy(update=changes)
    for line in look(replace(params, download=download)):
        print(line, flush=True)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    browser: Annotated[bool, typer.Option(help="open a browser window, if there is a screen")] = True,
) -> None:
    """Serve MLflow's pages for this project's runs on this machine, until Ctrl-C."""
    from pipeline.review.ui import serve

    with _store() as (store, _):
        serve(store, port, browser)


@app.command()
def serve(
    model: Annotated[str, typer.Option("--model", help="as of `rnnlm generate`")] = "champion",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5001,
) -> None:
    """Serve a model over HTTP on this machine, within limits (docs/serving.md), until Ctrl-C.

    The champion, or challenger, is followed: after a promotion or a rollback, the other model answers.
    """
    from pipeline.inference.server import Content, serve
    from pipeline.review.names import follower

    def content(saved: "SavedModel") -> Content:
        with suppress(InputError):  # a server needs no corpus, unless somebody asks for what is told of its words
            return saved, _unknown_types(saved)
        return saved, None

    if model not in ("champion", "challenger"):
        serve(content(_saved_model(model)), port)
        return
    _project()
    newer = follower(model)

    def other() -> Content | None:
        saved = newer()
        return saved and content(saved)

    first = other()
    assert first is not None  # the first call gives the one to begin with
    serve(first, port, other)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit status 1."""
    compute_the_same_everywhere()
    limit_spinning()
    limit_threads()
    write_what_the_terminal_can_show()
    run(app)


def _project() -> "Params":
    """Change to the project's folder, this one or one above, and read its parameters."""
    from pipeline.params import load_params
    from pipeline.provenance.git import left_branch

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            os.chdir(folder)
            if branch := left_branch():
                print(
                    f"warning: git is on no branch, as `dvc exp run` leaves it while it runs and when it is killed; "
                    f"once it has ended, `git switch {branch}` before you commit",
                    file=sys.stderr,
                )
            return load_params()
    raise InputError(f"no dvc.yaml and params.yaml in {here} or above it; run the command inside the project")


def _refuse_in_ci(option: str, given: bool) -> None:
    if given and os.environ.get("CI"):
        raise InputError(f"{option} is a person's decision, and CI is set here; run it on your machine")


@contextmanager
def _store(moved: bool = False) -> "Iterator[tuple[Store, Params]]":
    """The project's store and parameters; `moved` as in `open_store`."""
    from pipeline.tracking.store import open_store

    params = _project()
    with open_store(moved) as store:
        yield store, params


def _predictor(model: str | None) -> "Predictor":
    """The model that `--model` names, in use."""
    from pipeline.inference.predictor import Predictor
    from pipeline.runtime.exactness import warn_if_not_exact

    warn_if_not_exact(numpy=False)
    return Predictor(_saved_model(model))


def _saved_model(model: str | None) -> "SavedModel":
    """The model that `--model` names; a folder needs no project around it."""
    from pipeline.model.folder import load_model

    if model == "":
        raise InputError(f"--model names nothing; it takes {MODEL_NAMES}")
    if model is not None and not model.startswith("models:") and (Path(model).parts != (model,) or model == ".."):
        return load_model(Path(model))
    from pipeline.review.names import model_called
    from pipeline.training.history import best_cell

    here = Path.cwd()
    cells = list(_project().cells)
    name = model or best_cell(MODELS, cells)
    return load_model(MODELS / name) if name in cells else model_called(name, here / name)


def _unknown_types(model: "Predictor | SavedModel") -> "np.ndarray":
    """Word types of the project's corpus that the model does not know, as hashes; see word_types.py."""
    from pipeline.inference.scoring import unknown_types_of
    from pipeline.inference.word_types import check_reads_corpus
    from pipeline.provenance.dvc import current_tokens

    check_reads_corpus(model.text, _project().tokenize.lowercase)
    return unknown_types_of(current_tokens(), model.vocabulary)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _lines(file: str) -> list[str]:
    """The lines of a file, or of standard input for `-`, without line ends."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is not a file; name one with a sentence per line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
