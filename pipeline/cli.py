"""The `rnnlm` command: what a person does with the trained models. Its commands are in `pipeline/commands/`."""

import typer

from pipeline.commands import inference, retraining, review, tracking
from pipeline.runtime.settings import (
    compute_the_same_everywhere,
    limit_spinning,
    limit_threads,
    write_what_the_terminal_can_show,
)
from pipeline.runtime.stage import run

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Use and inspect the trained language models.")
for room in (inference, review, retraining, tracking):
    app.add_typer(room.app)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit status 1."""
    compute_the_same_everywhere()
    limit_spinning()
    limit_threads()
    write_what_the_terminal_can_show()
    run(app)
