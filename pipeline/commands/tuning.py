"""The command that searches for a better recipe."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import JsonOption, enter_project, examples, print_json

if TYPE_CHECKING:
    from pipeline.tuning.trials import TrialRecord

SHOWN_TRIALS = 10
WRITTEN_CELL = "tuned"

app = typer.Typer()
MOST_MINUTES = 1e6  # two years


@app.command(epilog=examples("rnnlm tune --minutes 60", "rnnlm tune --minutes 0", "rnnlm tune --write wide"))
def tune(
    minutes: Annotated[
        float,
        typer.Option(
            min=0, max=MOST_MINUTES, help="of training in all, over all calls; 0: train nothing, show what was found"
        ),
    ] = 60,
    write: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"entry of `cells` that the winner becomes; default: {WRITTEN_CELL}"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search for a better recipe on the prepared corpus, by validation alone, and write the winner to `cells`.

    What is searched stands in section `tune` of params.yaml. Stopped or killed, the same command goes on.
    """
    from pipeline.tuning.sweep import Sweep, ranked

    enter_project()
    sweep, name = Sweep(), write or (WRITTEN_CELL if minutes else None)
    if name:
        sweep.require_free(name)
    if minutes:
        sweep.run(minutes)
    trials = ranked(sweep.records())
    told = sweep.write(name) if name else ""
    if as_json:
        print_json({"folder": str(sweep.folder), "trials": [trial._asdict() for trial in trials], "done": told})
        return
    _show(trials)
    if told:
        print(told)


def _show(trials: "list[TrialRecord]") -> None:
    from pipeline.runtime.progress import duration
    from pipeline.runtime.terminal import show_table

    count = len(trials)
    finished = sum(trial.state == "finished" for trial in trials)
    seconds = sum(trial.seconds for trial in trials)
    rows = []
    for trial in trials[:SHOWN_TRIALS]:
        figure = "-" if trial.valid_perplexity is None else f"{trial.valid_perplexity:.2f}"
        entry = ", ".join(f"{key} {'null' if value is None else value}" for key, value in trial.entry.items())
        time = duration(trial.seconds) if trial.seconds else "-"
        rows.append((str(trial.trial), trial.state, figure, str(trial.epochs), time, trial.cell or entry))
    show_table(("trial", "", "validation perplexity", "epochs", "time", "recipe"), rows)
    print(
        f"{count} trials in {duration(seconds)}, {finished} of them finished; judged by validation alone, "
        "the test split was not read"
    )
