"""The `rnnlm` command: what a person does with the trained models. Its commands are in `pipeline/commands/`."""

from typing import Annotated

import typer

from pipeline.commands import evaluation, inference, retraining, review, tracking, tuning
from pipeline.runtime.settings import (
    compute_the_same_everywhere,
    limit_spinning,
    limit_threads,
    write_what_the_terminal_can_show,
)
from pipeline.runtime.stage import run
from pipeline.runtime.stopping import end_at_once

app = typer.Typer(no_args_is_help=True, epilog="`rnnlm COMMAND --help` shows examples; docs/command_line.md has more.")
for room, panel in (
    (inference, "Use a model"),
    (evaluation, "Use a model"),
    (review, "Compare models, and look around"),
    (retraining, "Train again"),
    (tuning, "Train again"),
    (tracking, "Look after MLflow's store"),
):
    for command in room.app.registered_commands:
        command.rich_help_panel = panel
    app.add_typer(room.app)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"rnnlm {version('rnnlm')}")
        raise typer.Exit


@app.callback()
def rnnlm(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Use and inspect the trained language models."""


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit status 1, a signal's end is soon."""
    compute_the_same_everywhere()
    limit_spinning()
    limit_threads()
    write_what_the_terminal_can_show()
    try:
        run(app)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:
            end_at_once(end.code)
        raise
