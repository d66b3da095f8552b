"""`rnnlm score` against a loop over the model of PyTorch's example word_language_model, on the same lines.

Both are processes of their own, start included, that print a line's log probability for each line; both models have
the shape of the default LSTM's 100 units and random weights. `python -m benchmarks.scoring [--lines N] [--json FILE]`;
docs/performance.md explains the rows.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import torch
import typer

from benchmarks.harness import JsonFile, Result, from_pairs, report, start
from benchmarks.peers import WordLanguageModel
from benchmarks.serving import texts
from pipeline.model.folder import SavedModel, TextRules, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.text.vocabulary import Vocabulary

PEER_LINES = 10_000  # lines of 5 to 30 words, which both score
PEER_TURNS = 3
OURS = "from pipeline.cli import main; main()"
THEIRS = "from benchmarks.scoring import peer; peer()"


class Spent(NamedTuple):
    """What a process took."""

    seconds: float
    processor: float  # seconds of all its threads
    megabytes: float  # at the peak


def main(
    lines: Annotated[int, typer.Option(min=1, help="short ones, for the row of memory")] = 1_000_000,
    json_file: JsonFile = None,
) -> None:
    """Lines a second, by the clock and by the processor, and memory."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    report(rows(lines), json_file)


def rows(lines: int) -> Iterator[Result]:
    """Speed on `PEER_LINES` lines, then memory and speed on many."""
    words = [f"word{number}" for number in range(7997)]
    vocabulary = Vocabulary(["SENTENCE_START", "SENTENCE_END", *words, "UNKNOWN_TOKEN"], [0] + [1] * 7999)
    shape = load_params().cells["lstm"].model
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = LanguageModel(shape, len(vocabulary), torch.Generator().manual_seed(1))
        save_model(SavedModel(model, vocabulary, TextRules(lowercase=True), {}), folder / "model")
        (folder / "few.txt").write_text("".join(f"{text}\n" for text in texts(vocabulary, PEER_LINES)))
        pairs = [(score(folder, "few.txt"), loop(folder, "few.txt")) for _ in range(PEER_TURNS)]
        peer_name = "a loop over word_language_model"
        for figure in ("seconds", "processor"):
            times = [(getattr(ours, figure), getattr(theirs, figure)) for ours, theirs in pairs]
            unit = "lines/s" if figure == "seconds" else "lines/s of processor time"
            yield from_pairs(f"score_{PEER_LINES}_{figure}", peer_name, times, PEER_LINES, unit)
        few = max(ours.megabytes for ours, _ in pairs)
        their = max(theirs.megabytes for _, theirs in pairs)
        yield Result(f"memory_{PEER_LINES}", peer_name, few, their, "MB at the peak", their / few, 0.0)
        write_short_lines(folder / "many.txt", lines, words)
        many = score(folder, "many.txt")
        rates = (lines / many.processor, PEER_LINES / pairs[0][0].processor)
        yield Result(
            f"score_{lines}_processor",
            f"{PEER_LINES} longer lines",
            *rates,
            "lines/s of processor time",
            rates[0] / rates[1],
            0.0,
        )
        yield Result(
            f"memory_{lines}",
            f"{PEER_LINES} longer lines",
            many.megabytes,
            few,
            "MB at the peak",
            few / many.megabytes,
            0.0,
        )


def write_short_lines(path: Path, count: int, words: Sequence[str]) -> None:
    """Lines of one to three words."""
    chance = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            file.write(" ".join(chance.choices(words, k=chance.randrange(1, 4))) + "\n")


def score(folder: Path, lines: str) -> Spent:
    """`rnnlm score` of a file."""
    return process(folder, OURS, "score", lines, "--model", str(folder / "model"))


def loop(folder: Path, lines: str) -> Spent:
    """The peer's loop over a file."""
    return process(folder, THEIRS, lines, str(folder / "model" / "vocabulary.tsv"))


def process(folder: Path, code: str, *arguments: str) -> Spent:
    """What Python code took, as a process in `folder`; it printed as many lines as it read."""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    begun = time.perf_counter()
    with (folder / "printed.txt").open("wb") as printed, (folder / "errors.txt").open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, stdout=printed, stderr=errors
        )
        _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError((folder / "errors.txt").read_text())
    read = next(argument for argument in arguments if argument.endswith(".txt"))
    with (folder / read).open() as lines, (folder / "printed.txt").open() as printed:
        assert sum(1 for _ in lines) == sum(1 for _ in printed)
    return Spent(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


@torch.no_grad()
def peer() -> None:
    """Print the log probability of each line of a file (first argument), by a vocabulary (second), line by line."""
    lines, words = sys.argv[1:]
    ids = {word: number for number, word in enumerate(Vocabulary.load(Path(words)).tokens)}
    torch.manual_seed(1)
    model = WordLanguageModel(len(ids), E=100, H=100, layers=1).eval()
    with Path(lines).open() as file:
        for line in file:
            row = torch.tensor([0, *(ids.get(word, len(ids) - 1) for word in line.split()), 1])
            log_probability, _ = model(row[:-1, None], model.init_hidden())
            print(f"{log_probability.gather(1, row[1:, None]).double().sum():.6f}")


if __name__ == "__main__":
    start(main)
