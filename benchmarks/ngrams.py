"""Counting n-grams: tokens a second, memory and disk of a Kneser-Ney model of a long text.

`python -m benchmarks.ngrams --tokens 10000000` takes half a minute. Seconds are those of the processor that it uses.
The text is that of `data/encoded/train` again and again, and each copy has a fifth of its words replaced by others of
the text, so that most of its longest n-grams are new, as in text that goes on; a model of five words is fitted by a
process of its own. The peers are aims (1 million tokens counted a second, 4 GiB) and the text's own size: KenLM's
Python package has no `lmplz`, which was said to count half a million a second.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.harness import JsonFile, Result, report, start
from pipeline.runtime.paths import ENCODED
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import END_ID

REPLACED = 0.2  # of the words of each copy
AIM_SPEED, AIM_MEMORY = 1e6, 4096.0  # tokens/s, MiB
FITTED_ORDER = 5
FIT = """if True:
    import sys, time
    from pathlib import Path
    from pipeline.evaluation import kneser_ney
    from pipeline.text.encoded import load_split
    counted = kneser_ney.count_ngrams
    def timed(*arguments):
        global counting
        started = time.process_time()
        grams = counted(*arguments)
        counting = time.process_time() - started
        return grams
    kneser_ney.count_ngrams = timed
    size, order = map(int, sys.argv[2:])
    train = load_split(Path(sys.argv[1]), size)
    started = time.process_time()
    kneser_ney.KneserNey(train, size, order)
    fitting = time.process_time() - started
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(counting, fitting, int(peak.split()[1]) / 1024)
"""


def main(
    tokens: Annotated[list[int] | None, typer.Option(help="of the text; may be repeated")] = None,
    json_file: JsonFile = None,
) -> None:
    """Four rows for each length of text."""
    report((row for length in tokens or [1_000_000, 10_000_000] for row in rows(length)), json_file)


def rows(tokens: int) -> Iterator[Result]:
    """Speed of counting, and with what is computed from the counts; peaks of memory and of disk."""
    base = load_split(ENCODED / "train")
    with tempfile.TemporaryDirectory() as folder:
        size = write_text(Path(folder), base, tokens)
        counting, fitting, memory, disk = fit(Path(folder), size)
        text = (Path(folder) / "ids.npy").stat().st_size / 2**20
    millions = f"{tokens / 1e6:g}M"
    for name, seconds in (("count", counting), ("fit", fitting)):
        speed = tokens / seconds
        yield Result(f"{name}_{millions}", "aim", speed, AIM_SPEED, "tokens / processor s", speed / AIM_SPEED, 0.0)
    yield Result(f"memory_{millions}", "aim", memory, AIM_MEMORY, "MiB at the peak", AIM_MEMORY / memory, 0.0)
    yield Result(f"disk_{millions}", "the text's ids", disk, text, "MiB at the peak", text / disk if disk else 1.0, 0.0)


def write_text(folder: Path, base: EncodedSplit, tokens: int) -> int:
    """Write a split of about so many ids to `folder`; returns the size of its vocabulary."""
    copies = -(-tokens // len(base.ids))
    sentences = int(np.searchsorted(base.offsets, tokens - (copies - 1) * len(base.ids)))
    lengths = [len(base.ids)] * (copies - 1) + [int(base.offsets[sentences])]
    ids = np.lib.format.open_memmap(folder / "ids.npy", "w+", base.ids.dtype, (sum(lengths),))
    chance, edges = np.random.default_rng(0), [0, *np.cumsum(lengths).tolist()]
    for begin, length in zip(edges, lengths, strict=False):
        part = base.ids[:length].copy()
        at = np.flatnonzero((part > END_ID) & (chance.random(length) < REPLACED))
        drawn = chance.choice(base.ids, len(at))
        part[at] = np.where(drawn > END_ID, drawn, part[at])
        ids[begin : begin + length] = part
    whole = [base.offsets[:-1] + begin for begin in edges[: copies - 1]]
    np.save(folder / "offsets.npy", np.concatenate([*whole, base.offsets[: sentences + 1] + edges[-2]]))
    return int(base.ids.max()) + 1


def fit(folder: Path, size: int) -> tuple[float, float, float, float]:
    """Seconds for counting, and for all, and MiB of memory and disk at the peak, of a process that fits the model."""
    command = [sys.executable, "-c", FIT, str(folder), str(size), str(FITTED_ORDER)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    disk = 0
    while process.poll() is None:
        disk = max(disk, unnamed(process.pid))
        time.sleep(0.2)
    output = process.communicate()[0]
    if process.returncode:
        sys.exit("error: the model could not be fitted, see above")
    counting, fitting, memory = map(float, output.split())
    return counting, fitting, memory, disk / 2**20


def unnamed(pid: int) -> int:
    """Bytes of the files without a name that a process has open."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            if link.readlink().name.endswith("(deleted)"):
                found += link.stat().st_size
    return found


if __name__ == "__main__":
    start(main)
