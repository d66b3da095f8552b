"""What `rnnlm retrain` says to the same recipe with other seeds, and to a better one: its verdicts, in its words.

In a temporary clone of the last commit, with one cell and a store of its own: the first model becomes champion; then
come further seeds of the same recipe, each committed and retrained as CI would; at last the same recipe with more
units. `python -m benchmarks.retraining_seeds` takes minutes a model. `--set KEY=VALUE` changes params.yaml for all of
them, such as `--set download.source=files --set download.path=/texts/small.csv --set vocabulary.size=500`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
import yaml

from benchmarks.harness import start
from pipeline.params import put, read_params
from pipeline.runtime.errors import InputError

CHECKOUT = Path(__file__).parents[1]
RETRAIN = [sys.executable, "-c", "from pipeline.cli import main; main()", "retrain"]


class Project:
    """A clone, its git identity and its environment: nothing of the user's own settings or store."""

    def __init__(self, folder: Path) -> None:
        """Clone this checkout's last commit to a new folder."""
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "RNNLM_"))}
        kept.pop("CI", None)  # where a retraining without a server goes without a champion
        kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}", "PYTHONPATH": str(folder)}
        for who in ("AUTHOR", "COMMITTER"):
            kept |= {f"GIT_{who}_NAME": "benchmark", f"GIT_{who}_EMAIL": "benchmark@example.org"}
        self.environment = kept
        self.run("git", "clone", "-q", str(CHECKOUT), str(folder), cwd=CHECKOUT)
        self.run("git", "remote", "remove", "origin")
        self.run("git", "checkout", "-q", "-B", "main")

    def run(self, *command: str, cwd: Path | None = None) -> None:
        """Run a command, whose output goes where it is shown if that fails.

        Raises:
            InputError: it fails.
        """
        done = subprocess.run(command, cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def retrain(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Commit changes of params.yaml, by dotted keys, and retrain; returns what retrain.json holds."""
        self.run("git", "checkout", "-q", "main")
        path = self.folder / "params.yaml"
        content = read_params(path)
        for key, value in changes.items():
            put(content, key, value)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        self.run("git", "commit", "-q", "--allow-empty", "-am", ", ".join(changes))
        self.run(*RETRAIN)
        return json.loads((self.folder / ".rnnlm" / "retrain" / "retrain.json").read_text())


def main(
    cell: Annotated[str, typer.Option(help="of params.yaml, the only one that is trained")] = "gru",
    seeds: Annotated[int, typer.Option(min=1, help="of the same recipe, after the champion's")] = 4,
    units: Annotated[int, typer.Option(min=1, help="of the recipe that is meant to be better")] = 200,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="in params.yaml")] = None,
) -> None:
    """Print a verdict for each retraining."""
    cells = read_params(CHECKOUT / "params.yaml")["cells"]
    if cell not in cells:
        raise InputError(f"no cell named {cell!r} in params.yaml; it has: {', '.join(cells)}")
    first: dict[str, Any] = {"cells": {cell: cells[cell]}}
    for change in changes or []:
        key, _, value = change.partition("=")
        first[key] = yaml.safe_load(value)
    with TemporaryDirectory() as folder:
        project = Project(Path(folder) / "clone")
        steps = [("the first", first)]
        steps += [(f"seed {seed} of the same recipe", {"train.seed": seed}) for seed in range(2, 2 + seeds)]
        steps += [(f"{units} units", {"model.hidden_size": units})]
        for name, changed in steps:
            found = project.retrain(changed)
            print(f"{name}: {found['headline']}", *(f"  {reason}" for reason in found["reasons"]), sep="\n", flush=True)


if __name__ == "__main__":
    start(main)
