"""pins: code and constraints.txt -> for each stage a small file of what its code does, and of the libraries it uses.

A stage depends on that file instead of code and constraints.txt: a comment, a docstring or a new version of ruff reruns
nothing. pipeline/provenance/code.py says what counts.
"""

from pathlib import Path

import yaml

from pipeline.params import load_params
from pipeline.provenance.code import changed, code_lines, libraries, read_pins
from pipeline.runtime.paths import PINS
from pipeline.runtime.pins import read_constraints, write_pins
from pipeline.runtime.stage import run_stage


def pins() -> None:
    """Write data/pins/STAGE.txt for each stage, and corpus.txt for the packages of the default corpus.

    The files are as the last run left them, so they tell what changed since; that is printed.
    """
    constraints, root = read_constraints(Path("constraints.txt")), Path()
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    reruns: dict[str, list[str]] = {}

    def write(stage: str, name: str, packages: list[str], code: list[str]) -> None:
        path = PINS / f"{name}.txt"
        before = read_pins(path) if path.exists() else None
        write_pins(constraints, packages, path, code)
        if before is not None:
            for what in changed(before, read_pins(path)):
                reruns.setdefault(what, []).append(f"{stage}@..." if "foreach" in stages[stage] else stage)

    known = any((PINS / f"{stage}.txt").exists() for stage in stages)
    for stage in stages:
        if stage != "pins":
            write(stage, stage, libraries(stage, root), code_lines(stage, root))
    write("download", "corpus", load_params().download.packages, [])
    for what, names in sorted(reruns.items()):
        print(f"{what} changed{' in meaning' * ('/' in what)}; reruns {', '.join(dict.fromkeys(names))}")
    if not reruns:
        print("nothing changed in meaning" if known else "first run: there is nothing yet to compare the code with")


if __name__ == "__main__":
    run_stage(pins)
