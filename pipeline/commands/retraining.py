"""Commands that train, and what trains."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import enter_project, examples, refuse_in_ci
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
