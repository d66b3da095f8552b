"""Commands for MLflow's store: bring it up to date, move it, keep a copy."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import enter_project, project_store

app = typer.Typer()


@app.command()
def sync() -> None:
    """Add to MLflow what is in data/ but not there: runs that DVC restored from its cache, or that MLflow missed."""
    from pipeline.review.challenger import bring_up_to_date
    from pipeline.tracking.store import is_off

    enter_project()
    if is_off():
        print("skipped, as RNNLM_TRACKING is off")
        return
    with project_store() as (store, _):
        for line in bring_up_to_date(store):
            print(line)


@app.command()
def relocate() -> None:
    """Let MLflow's database find its artifacts again after the project was moved or copied."""
    from pipeline.tracking import relocation
    from pipeline.tracking.store import tracking_uri

    with project_store(moved=True) as (store, _):
        artifacts = store.client.get_experiment(store.experiment_id).artifact_location
        print(relocation.relocate(tracking_uri(), artifacts))


@app.command()
def backup(file: Annotated[Path, typer.Argument(metavar="FILE", help="a new tar file")]) -> None:
    """Write MLflow's whole store, runs, champions and models, to one file; also while runs are being written."""
    from pipeline.tracking.backup import back_up

    file = file.absolute()
    enter_project()
    print(back_up(file))


@app.command()
def restore(file: Annotated[Path, typer.Argument(metavar="FILE", help="what `rnnlm backup` wrote")]) -> None:
    """Put back MLflow's store from a backup, where there is none; every byte is checked before anything is written."""
    from pipeline.tracking.backup import restore_backup

    file = file.absolute()
    enter_project()
    print(restore_backup(file))
