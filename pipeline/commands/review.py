"""Commands that ask and decide: list, compare, promote, reproduce, look at the data, free space."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands.common import (
    JsonOption,
    RunArgument,
    WideOption,
    enter_project,
    examples,
    print_json,
    print_lines,
    project_store,
    refuse_in_ci,
)
from pipeline.runtime.errors import InputError

app = typer.Typer()


@app.command(epilog=examples("rnnlm table", "rnnlm table --wide", "rnnlm table --json"))
def table(wide: WideOption = False, as_json: JsonOption = False) -> None:
    """Compare all models: test perplexity with its interval, parameters, training time on this machine."""
    from pipeline.review.overview import overview
    from pipeline.runtime.terminal import show_table, show_text

    shown = overview(enter_project(), wide)
    if as_json:
        print_json(shown.as_json())
        return
    if shown.about:
        show_text(*shown.about)
    show_table(shown.models[0], shown.models[1:])
    show_text(*shown.remarks)
    if shown.seeds:
        show_table(shown.seeds[0], shown.seeds[1:])


@app.command(epilog=examples("rnnlm runs --limit 10", "rnnlm runs --wide", "rnnlm runs --json"))
def runs(
    limit: Annotated[int | None, typer.Option(min=1, help="only the newest; default: all", show_default=False)] = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs in MLflow, newest first; `rnnlm show RUN` has all of one."""
    from pipeline.review.listing import list_runs
    from pipeline.review.tables import show_runs

    with project_store() as (store, _):
        listed = list_runs(store, store.runs(limit))
    if as_json:
        print_json([run.as_json() for run in listed])
    else:
        show_runs(listed, wide)


@app.command(epilog=examples("rnnlm show champion", "rnnlm show lstm --json"))
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show all of one run in MLflow: figures with intervals, settings, code, model, version, machine."""
    from pipeline.review.listing import list_runs
    from pipeline.review.names import find
    from pipeline.review.tables import show_run
    from pipeline.review.unseen import seen_by_ancestors
    from pipeline.runtime.terminal import show_text

    with project_store() as (store, _):
        found = find(store, run)
        (listed,), told = list_runs(store, [found]), seen_by_ancestors(store, found)
    if as_json:
        print_json(listed.as_json() | ({"remarks": [told]} if told else {}))
    else:
        show_run(listed)
        if told:
            show_text(told)


@app.command(epilog=examples("rnnlm compare lstm gru", "rnnlm compare champion challenger --json"))
def compare(
    a: RunArgument,
    b: RunArgument,
    models: Annotated[bool, typer.Option("--models", help="these two, whatever other seeds there are")] = False,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(help="also write a page of the two: curves, and sentences word by word")
    ] = None,
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

    html = html and html.absolute()
    with project_store() as (store, params):
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
            if html:
                from pipeline.review.comparison_page import write_comparison_page

                write_comparison_page(html, store, first, second, compared)
        except InputError as error:
            refusal = error  # show the differences all the same
    if as_json:
        test = compared and compared.as_json()
        print_json({"a": row_a.as_json(), "b": row_b.as_json(), **vars(found), "test": test})
    else:
        show_differences(row_a, row_b, found)
        if compared is not None:
            show_comparison(compared)
    if refusal is not None:
        raise refusal


@app.command(epilog=examples("rnnlm promote", "rnnlm promote --confidence 0.99 --json"))
def promote(
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=1,
            help="of the two-sided interval that has to show it is better; retrain.confidence if not given",
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

    refuse_in_ci(WITHOUT_OLD_SENTENCES, without_old_sentences)
    refuse_in_ci(WITHOUT_NGRAM, without_ngram)
    with project_store() as (store, params):
        for line in bring_up_to_date(store):
            print(line, file=sys.stderr)
        needed = params.retrain.confidence if confidence is None else confidence
        verdict = decide(store, the_challenger(store), needed, params, without_old_sentences, without_ngram)
        carry_out(store, verdict)
    if as_json:
        print_json(verdict.as_json())
    else:
        print(f"v{verdict.challenger}: {verdict.outcome}. {verdict.reason}")


@app.command(epilog=examples("""rnnlm rollback --reason 'worse on names'"""))
def rollback(
    reason: Annotated[str, typer.Option(help="for both versions' pages in MLflow")] = "", as_json: JsonOption = False
) -> None:
    """Restore the previous champion."""
    from pipeline.review import promotion

    with project_store() as (store, _):
        left, champion = promotion.rollback(store, reason)
    if as_json:
        print_json({"champion": champion, "replaced": left})
    else:
        print(f"v{champion} is champion again, in place of v{left}")


@app.command(epilog=examples("rnnlm reproduce champion", "rnnlm reproduce v3 --from download"))
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

    with project_store() as (store, _):
        result = reproduction.reproduce(store, find(store, run), start, trust)
    if as_json:
        print_json(result.as_json())
    else:
        print("\n".join(result.lines()))
    sys.exit(reproduction.STATUS[result.verdict])


@app.command(epilog=examples("rnnlm data champion /tmp/data-of-champion"))
def data(
    run: RunArgument, folder: Annotated[Path, typer.Argument(help="a new folder")], as_json: JsonOption = False
) -> None:
    """Bring back the exact text, vocabulary and splits that a run was made from, by their hashes, from DVC."""
    from pipeline.review.names import find
    from pipeline.review.run_data import restore_data

    folder = folder.absolute()
    with project_store() as (store, _):
        paths = [str(folder / path) for path in restore_data(store, find(store, run).info.run_id, folder)]
    print_lines(paths, as_json)


@app.command(epilog=examples("rnnlm verify", "rnnlm verify --json"))
def verify(as_json: JsonOption = False) -> None:
    """Compare every byte of the results in data/ with dvc.lock, whether or not DVC's cache has them.

    Exit status 1: one is missing, or is not what dvc.lock says.
    """
    from pipeline.provenance.verification import outputs_unlike_lock

    enter_project()
    count, others = outputs_unlike_lock()
    if as_json:
        print_json({"results": count, "unlike": {str(path): what for path, what in others.items()}})
        sys.exit(1 if others else 0)
    for path, what in others.items():
        print(f"{path}: {what}")
    print(f"{count - len(others)} of {count} results are as dvc.lock says")
    sys.exit(1 if others else 0)


@app.command(epilog=examples("rnnlm corpus corpus/comments.csv", "rnnlm corpus corpus/comments.csv --text-column body"))
def corpus(
    path: Annotated[str | None, typer.Argument(help="a file, folder or URL; default: what params.yaml says")] = None,
    text_column: Annotated[str | None, typer.Option(help="of tables; default: download.text_column")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would be read and trained on, before anything is; nothing changes."""
    from pipeline.review.preview import look

    where = path and (path if "://" in path else str(Path(path).resolve()))
    params = enter_project()
    changes = {"source": "files", "path": where} if where else {}
    changes |= {"text_column": text_column} if text_column else {}
    download = params.download.model_copy(update=changes)
    print_lines(look(replace(params, download=download)), as_json)


@app.command(epilog=examples("rnnlm ui", "rnnlm ui --port 5005 --no-browser"))
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    browser: Annotated[bool, typer.Option(help="open a browser window, if there is a screen")] = True,
) -> None:
    """Serve MLflow's pages for this project's runs on this machine, until Ctrl-C."""
    from pipeline.review.ui import serve

    with project_store() as (store, _):
        serve(store, port, browser)


@app.command(epilog=examples("rnnlm gc", "rnnlm gc --older-than 7 --yes"))
def gc(
    days: Annotated[int, typer.Option("--older-than", min=1, metavar="DAYS", help="nothing younger goes")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="free it; otherwise only say what would be freed")] = False,
    as_json: JsonOption = False,
) -> None:
    """Free what nobody needs any more: old models without a rank, data of no commit or run, leftovers."""
    from pipeline.review.cleaning import in_words, leftovers
    from pipeline.runtime.stopping import heeded_signals, raise_if_stopped
    from pipeline.tracking.backup import store_lock

    with project_store() as (store, _), store_lock(), heeded_signals():
        found = leftovers(store, days)
        told = in_words(found) if found else [f"nothing to free: all that is older than {days} days is needed"]
        if not as_json:
            print("\n".join(told))
        if yes:
            for item in found:
                raise_if_stopped("the rest stays")
                item.free()
    if as_json:
        items = [{"kind": item.kind, "bytes": item.size, "paths": list(map(str, item.paths))} for item in found]
        print_json({"leftovers": items, "freed": yes})
    elif found:
        print("freed" if yes else "nothing was freed yet; `rnnlm gc --yes` frees it")
