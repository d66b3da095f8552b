"""Commands that train, and what trains."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import JsonOption, enter_project, examples, print_json, refuse_in_ci
from pipeline.runtime.errors import InputError

app = typer.Typer()


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train() -> None:
    """Say what trains: without this command, `retrain` would be suggested, which commits to another branch."""
    raise InputError("models are trained by the pipeline: `dvc repro` runs what is out of date, as `make repro` does")


@app.command(epilog=examples("rnnlm retrain", "rnnlm retrain --branch nightly --exit-code"))
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

    enter_project()
    refuse_in_ci(WITHOUT_OLD_SENTENCES, without_old_sentences)
    verdict = retrain.retrain(branch, output, without_old_sentences).judgement.verdict
    sys.exit({"unchanged": 10, "kept": 11}.get(verdict, 0) if exit_code else 0)


def _recipe_names() -> list[str]:
    from pipeline.retraining.recipe_run import recipes

    return list(recipes())


@app.command(
    epilog=examples("rnnlm recipe", "rnnlm recipe zaremba-small", "rnnlm recipe ptb-10min -S download.source=files")
)
def recipe(
    name: Annotated[
        str | None, typer.Argument(help="of a folder of recipes/; default: list them", autocompletion=_recipe_names)
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set-param", "-S", metavar="KEY=VALUE", help="a parameter, as in `dvc exp run`"),
    ] = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="run all of it, whatever earlier calls and DVC's cache have")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train and evaluate the models of a recipe, in .rnnlm/recipes/NAME: params.yaml and data/ stay as they are.

    After a kill the same command goes on. Runs are in MLflow's experiment `recipe NAME`; no model is registered.
    """
    from pipeline.retraining import recipe_run
    from pipeline.runtime.terminal import show_table, show_text

    enter_project()
    if name is None:
        found = recipe_run.recipes()
        if as_json:
            print_json(found)
        else:
            show_table(("recipe", "what it gives"), found.items())
        return
    done = recipe_run.apply_recipe(name, change or (), afresh)
    if as_json:
        print_json(done.as_json())
    else:
        show_table(*done.table())
        show_text(*done.lines())
