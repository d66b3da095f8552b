"""The default cells with several seeds each, and the record of that in recipes/default/: `make headline`.

The results of `make repro` stay as they are. All is made in a worktree of the last commit, .rnnlm/headline, with the
DVC cache of this checkout; after a kill the next call goes on there, and loses no seed that is finished.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.evaluation import results
from pipeline.params import load_params
from pipeline.provenance import git
from pipeline.provenance.dvc import DVC
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import sha256
from pipeline.runtime.markdown import markdown_table
from pipeline.runtime.paths import EVALUATION, MODELS, TIMINGS, WEIGHTS_FILE, seed_folders
from pipeline.runtime.settings import compute_the_same_everywhere
from pipeline.runtime.stage import run
from pipeline.tracking.store import TRACKING_OFF

TREE = Path(".rnnlm/headline")
RECIPE = Path("recipes/default")


def made_with_seeds(tree: Path, seeds: Mapping[str, int], *targets: str) -> None:
    """Lay out the last commit in `tree`, unless that is there, and run `dvc repro` there with so many seeds of cells.

    Raises:
        InputError: git or a stage fails.
    """
    from dvc.utils.serialize import modify_yaml

    git.kept_worktree(tree)
    with modify_yaml(str(tree / "params.yaml")) as content:
        for name, number in seeds.items():
            content["cells"][name]["seeds"] = number
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    environment = kept | {**TRACKING_OFF, "PYTHONPATH": str(tree.resolve())}
    for command in (["cache", "dir", "--local", str(Path(".dvc/cache").resolve())], ["repro", *targets]):
        if subprocess.run([*DVC, *command], cwd=tree, env=environment, stdout=sys.stderr).returncode:
            raise InputError(f"`dvc {command[0]}` failed in {tree}; its message stands above, and another call goes on")


def write_record(tree: Path, command: str) -> None:
    """Write recipes/default/: params.yaml, metrics.json, record.json and README.md, from what lies in `tree`."""
    params = load_params(tree / "params.yaml")
    names = list(params.cells)
    rows = results.comparison_table(tree / EVALUATION, tree / MODELS, names)
    recipes = results.recipe_tests(tree / EVALUATION, rows, params.evaluate.bootstrap_samples, params.evaluate.seed)
    timings = {name: _timings(tree, name) for name in names}
    minutes = {name: sum(map(_seconds, timed)) / 60 for name, timed in timings.items()}
    record = {
        "command": command,
        "commit": git.output("-C", str(tree), "rev-parse", "HEAD").strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine_of(tree),
        "training_minutes": {name: round(value, 1) for name, value in minutes.items()},
        "models_timed": {name: len(timed) for name, timed in timings.items()},  # others were trained before
        "weights_sha256": {
            name: {
                str(cell.train.seed): sha256(tree / MODELS / cell.folder / WEIGHTS_FILE)
                for cell in params.cell(name).each_seed
            }
            for name in names
        },
        "recipes": recipes,
    }
    RECIPE.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tree / "params.yaml", RECIPE / "params.yaml")
    figures = {name: results.read_metrics(tree / EVALUATION / name / "metrics.json") for name in (*names, "baselines")}
    write_text(RECIPE / "metrics.json", json.dumps(figures, indent=1, sort_keys=True) + "\n")
    write_text(RECIPE / "record.json", json.dumps(record, indent=1) + "\n")
    machine = record["machine"]
    parts = [
        "# The default recipe",
        f"Made by `{command}` at commit {record['commit'][:12]} on {record['date']}: {sum(minutes.values()):.0f} "
        f"minutes of training for {sum(map(len, timings.values()))} of the "
        f"{sum(map(len, record['weights_sha256'].values()))} models on {machine['machine.processor']}, "
        f"{machine['machine.threads']} threads. Parameters, all figures, and the hash of each seed's weights lie "
        "beside this file.",
        markdown_table(results.table_cells(rows), right=True),
        results.about_seeds(rows),
        markdown_table(results.seed_cells(rows), right=True),
        "Compared as recipes, over seeds and documents:",
        "\n".join(f"- {said}" for said in recipes),
    ]
    write_text(RECIPE / "README.md", "\n\n".join(parts) + "\n")


def machine_of(tree: Path) -> dict[str, str]:
    """The machine as the stages find it, which set up their process before NumPy and torch are there."""
    code = "import stages, torch, json, pipeline.provenance.environment as e; print(json.dumps(e.machine_params()))"
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    found = subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(found.stdout)


def _timings(tree: Path, name: str) -> list[Path]:
    """The files with the times of a cell's seeds; of seeds that were trained elsewhere there are none."""
    return [path for path in (tree / TIMINGS / f"{folder.relative_to(tree / MODELS)}.json"
                              for folder in seed_folders(tree / MODELS / name)) if path.exists()]  # fmt: skip


def _seconds(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])


def main(
    seeds: Annotated[int, typer.Option(min=2, help="of each cell")] = 5,
) -> None:
    """Train and score every cell with several seeds, and write the record to recipes/default/."""
    made_with_seeds(TREE, dict.fromkeys(load_params().cells, seeds))
    write_record(TREE, f"make headline SEEDS={seeds}")
    print((RECIPE / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    compute_the_same_everywhere()
    run(lambda: typer.run(main))
