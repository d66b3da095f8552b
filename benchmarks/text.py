"""The text path: tokens a second against NLTK, what a second process brings, memory against the size of the corpus.

`python -m benchmarks.text [CORPUS...] --json FILE` takes ten minutes. Rows `tokenizer_*` take the default corpus, if
`make repro` was run before, and each CORPUS: a name of `download.sources`, or a path. docs/performance.md explains the
rows.
"""

import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from nltk.tokenize.destructive import NLTKWordTokenizer

from benchmarks.harness import JsonFile, Result, compare, report, start
from pipeline.params import load_params
from pipeline.runtime.paths import DOCUMENTS, PINS
from pipeline.runtime.progress import Bar
from pipeline.text.documents import Document, read_documents
from pipeline.text.sentences import TRAIN, SentenceSplitter, training_sample
from pipeline.text.sources.corpus import documents
from pipeline.text.sources.fetch import Fetcher, mirror_folder
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens

CHARACTERS = 1_500_000  # of each corpus, for the rows against NLTK
MEDIUM = 60_000_000  # bytes of text, for the row of two processes
SMALL, LARGE = 20_000_000, 400_000_000  # for the row of memory
STAGES = ("download", "tokenize", "vocabulary", "encode")


def main(
    corpora: Annotated[list[str] | None, typer.Argument(help="names of download.sources, or paths")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the text path; the rows against NLTK take the default corpus, and CORPORA."""
    report(rows(corpora or []), json_file)


def rows(corpora: list[str]) -> Iterator[Result]:
    """All rows, in the order of the module's head."""
    if DOCUMENTS.exists():
        yield tokenizer("default", read_documents(DOCUMENTS))
        yield from punkt(list(read_documents(DOCUMENTS)))
    else:
        print(f"{DOCUMENTS} is missing: no row tokenizer_default; run `make repro` first", file=sys.stderr)
    params = load_params().download
    for name in corpora:
        changes = {"source": name} if name in params.sources else {"source": "files", "path": name}
        fetcher = Fetcher(params.max_bytes, mirror=mirror_folder())
        found = documents(params.model_copy(update=changes), PINS / "corpus.txt", fetcher)
        yield tokenizer(Path(name).stem, found)
    with tempfile.TemporaryDirectory() as folder:
        yield processes(Path(folder))
        yield memory(Path(folder))


def tokenizer(name: str, found: Iterable[Document]) -> Result:
    """Sentences to tokens on one core; neither side remembers anything from one sentence to the next."""
    splitter, sentences, characters = SentenceSplitter("english"), [], 0
    for document in found:
        sentences += splitter.split(document.text)
        characters += len(document.text)
        if characters > CHARACTERS:
            break
    ours, theirs = Tokenizer(lowercase=False).tokenize, NLTKWordTokenizer().tokenize
    tokens = sum(len(ours(sentence)) for sentence in sentences)

    def all_by(tokenize: Callable[[str], list[str]]) -> Callable[[], object]:
        return lambda: [len(tokenize(sentence)) for sentence in sentences]

    return compare(f"tokenizer_{name}", "nltk's NLTKWordTokenizer", all_by(ours), all_by(theirs), tokens, "tokens/s")


def punkt(found: list[Document]) -> Iterator[Result]:
    """Punkt trained on a sample of the corpus, as `tokenize.language: train` does, against training on all of it."""
    start = time.perf_counter()
    ours = SentenceSplitter(TRAIN, training_sample(found))
    middle = time.perf_counter()
    theirs = SentenceSplitter(TRAIN, [document.text for document in found])
    pair = (middle - start, time.perf_counter() - middle)
    yield Result("punkt_training", "trained on all", *pair, "s", pair[1] / pair[0], 0.0)
    same = total = 0
    for document in found:
        sentences = [Counter(splitter.split(document.text)) for splitter in (ours, theirs)]
        same += (sentences[0] & sentences[1]).total()
        total += sentences[1].total()
    yield Result("punkt_agreement", "trained on all", same / total, 1.0, "share of its sentences", same / total, 0.0)


def processes(folder: Path) -> Result:
    """The stage `tokenize`, its start included, with two processes and with one."""
    path = folder / "corpus.txt"
    write_corpus(path, MEDIUM)
    fetched = [Document(str(number), line) for number, line in enumerate(path.read_text().splitlines())]
    splitter, params = SentenceSplitter("english"), load_params().tokenize

    def work(workers: int) -> Callable[[], object]:
        tokenizer = Tokenizer(params.lowercase)
        return lambda: write_tokens(fetched, splitter, tokenizer, params, folder / "tokens.parquet", workers, Bar())

    return compare("tokenize_2_processes", "1 process", work(2), work(1), MEDIUM / 1e6, "MB/s")


def memory(folder: Path) -> Result:
    """Peak anonymous memory of the four text stages, all their processes together, for a large and a small corpus."""
    peaks = []
    for size in (LARGE, SMALL):
        write_corpus(folder / "corpus.txt", size)
        peaks.append(max(peak_memory(folder, stage) for stage in STAGES) / 1e6)
    large, small = peaks
    name = f"memory_{LARGE // 10**6}MB"
    return Result(name, f"{SMALL // 10**6} MB", large, small, "MB at the peak", small / large, 0.0)


def write_corpus(path: Path, size: int) -> None:
    """A document a line, of sentences that are all distinct, their words as frequent as those of a language."""
    chance = random.Random(1)
    # 30,000 words, of which the n-th is drawn in proportion to 1/n.
    words = [f"{stem}{suffix}" for stem in _stems() for suffix in ("", "s", "ed", "ing", "er", "ly")]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            sentences = (
                f"{' '.join(chance.choices(words, cum_weights=weights, k=chance.randrange(6, 30)))}.".capitalize()
                for _ in range(8)
            )
            written += file.write(" ".join(sentences) + "\n")


def _stems() -> list[str]:
    parts = ("bdfgklmnprstvz", "aeiou", "bdgklmnprst", ["", "e", "o"])
    return ["".join(stem) for stem in itertools.product(*parts)][::-1]


def peak_memory(folder: Path, stage: str) -> int:
    """Bytes of anonymous memory at the peak of one stage, run in `folder`, all its processes together."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"source": "files", "path": "corpus.txt"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / PINS).mkdir(parents=True, exist_ok=True)
    for name in ("corpus", "tokenize"):
        (folder / PINS / f"{name}.txt").touch()
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    peak = 0
    with subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous_memory(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"error: stage {stage} failed on the corpus of the benchmark")
    return peak


def _anonymous_memory(pid: int) -> int:
    """Bytes, of a process and all below it; one that has ended meanwhile counts as nothing."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        for process in (parent := psutil.Process(pid), *parent.children(recursive=True)):
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += sum(1024 * int(kilobytes) for kilobytes in re.findall(r"^RssAnon:\s*(\d+)", status, re.MULTILINE))
    return total


if __name__ == "__main__":
    start(main)
