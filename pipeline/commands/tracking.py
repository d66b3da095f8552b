"""Commands for MLflow's store: bring it up to date, move it, keep a copy."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import JsonOption, enter_project, examples, print_lines, project_store

app = typer.Typer()


@app.command(epilog=examples("rnnlm sync"))
def sync(as_json: JsonOption = False) -> None:
    """Add to MLflow what is in data/ but not there: runs that DVC restored from its cache, or that MLflow missed."""
    from pipeline.review.challenger import bring_up_to_date
    from pipeline.tracking.store import is_off

    enter_project()
    if is_off():
        print_lines(["skipped, as RNNLM_TRACKING is off"], as_json)
        return
    with project_store() as (store, _):
        print_lines(bring_up_to_date(store), as_json)


@app.command(epilog=examples("rnnlm relocate"))
def relocate(as_json: JsonOption = False) -> None:
    """Let MLflow's database find its artifacts again after the project was moved or copied."""
    from pipeline.tracking import relocation
    from pipeline.tracking.store import tracking_uri

    with project_store(moved=True) as (store, _):
        artifacts = store.client.get_experiment(store.experiment_id).artifact_location
        print_lines([relocation.relocate(tracking_uri(), artifacts)], as_json)


@app.command(epilog=examples("rnnlm backup /mnt/runs.tar"))
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a new tar file")], as_json: JsonOption = False
) -> None:
    """Write MLflow's whole store, runs, champions and models, to one file; also while runs are being written."""
    from pipeline.tracking.backup import back_up

    file = file.absolute()
    enter_project()
    print_lines([back_up(file)], as_json)


@app.command(epilog=examples("rnnlm restore /mnt/runs.tar"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what `rnnlm backup` wrote")], as_json: JsonOption = False
) -> None:
    """Put back MLflow's store from a backup, where there is none; every byte is checked before anything is written."""
    from pipeline.tracking.backup import restore_backup

    file = file.absolute()
    enter_project()
    print_lines([restore_backup(file)], as_json)
