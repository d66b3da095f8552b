"""Whether it pays to begin with the champion's weights when documents have been added, by test perplexity.

Yesterday's corpus is the default one without a part of its documents, chosen by a hash; today's is the whole. The
champion, a default LSTM, has learned yesterday's training split with yesterday's vocabulary. Then today's is learned
from random weights and from the champion's, everything else alike; all are tested on today's test split. Figures are
medians over `SEEDS`, of the champion as of the others. Ratio above 1: the champion's weights are the better start.

`python -m benchmarks.warm_start --json FILE` takes half an hour on 2 cores and needs one `make repro` before.
"""

import hashlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import torch

from benchmarks.harness import Result, run
from benchmarks.quality import train_silently
from pipeline.model.folder import SavedModel, TextRules, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import CellParams, load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import TOKENS
from pipeline.runtime.progress import progress_bar
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.encoded import load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.first_weights import warm_start
from pipeline.training.trainer import validation_nats

CELL = "lstm"
NEW_SHARES = (0.05, 0.2)  # of today's documents
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Day:
    """A corpus: its vocabulary, and its encoded splits in a folder."""

    folder: Path
    vocabulary: Vocabulary


def rows() -> Iterator[Result]:
    """For each share of new documents: as many epochs either way, and one epoch against all."""
    if not TOKENS.is_file():
        raise InputError(f"{TOKENS} is missing; run `make repro` first")
    params = load_params()
    cell = params.cell(CELL)
    table = parquet.read_table(TOKENS)
    with tempfile.TemporaryDirectory() as name:
        today = encoded(table, Path(name) / "today", params.vocabulary.size)
        cold = {seed: trained(cell, today, seed) for seed in SEEDS}
        for share in NEW_SHARES:
            old = [not _is_new(document, share) for document in table["document"].to_pylist()]
            yesterday = encoded(table.filter(pa.array(old)), Path(name) / f"without {share}", params.vocabulary.size)
            champions = {seed: Path(name) / f"{share} {seed}" for seed in SEEDS}
            for seed, folder in champions.items():
                trained(cell, yesterday, seed, save_to=folder)
            whole = in_numbers(cell.train, cell.model, load_split(today.folder / "train").tokens).epochs
            for epochs in (whole, 1):
                warm = {
                    seed: trained(cell, today, seed, epochs, lambda model, words, f=folder: warm_start(model, words, f))
                    for seed, folder in champions.items()
                }
                ratios = [cold[seed] / warm[seed] for seed in SEEDS]
                yield Result(
                    f"warm_start_{share:.0%}_new_{epochs}_epochs".replace("%", ""),
                    f"random weights, {whole} epochs",
                    statistics.median(warm.values()),
                    statistics.median(cold.values()),
                    "test perplexity",
                    statistics.median(ratios),
                    (max(ratios) - min(ratios)) / statistics.median(ratios),
                )


def encoded(table: pa.Table, folder: Path, size: int | None) -> Day:
    """Count and encode the sentences of some documents, as the stages do."""
    folder.mkdir()
    path = folder / "sentences.parquet"
    parquet.write_table(table, path)
    with progress_bar("warm_start", None, "sentences") as bar:
        vocabulary = build_vocabulary(count_words(path, "train", folder, 1, bar), size)
        encode_tokens(path, vocabulary, folder, 1, bar)
    return Day(folder, vocabulary)


def trained(
    cell: CellParams,
    day: Day,
    seed: int,
    epochs: int | None = None,
    start: Callable[[LanguageModel, Vocabulary], object] = lambda model, vocabulary: None,
    save_to: Path | None = None,
) -> float:
    """Train on a day's corpus; returns the test perplexity.

    Args:
        cell: what to train.
        day: the corpus.
        seed: of the first weights and of the order of the sentences.
        epochs: None: as many as the cell has.
        start: changes the first weights.
        save_to: a folder for the model.
    """
    splits = {split: load_split(day.folder / split) for split in ("train", "valid", "test")}
    change = {"seed": seed} | ({"epochs": epochs} if epochs else {})
    params = in_numbers(cell.train.model_copy(update=change), cell.model, splits["train"].tokens)
    model = LanguageModel(cell.model, len(day.vocabulary), torch.Generator().manual_seed(seed))
    start(model, day.vocabulary)
    train_silently(model, splits, day.vocabulary, params)
    if save_to:
        save_model(SavedModel(model, day.vocabulary, TextRules(lowercase=True), params.model_dump()), save_to)
    return math.exp(validation_nats(model, splits["test"], params.batch_tokens))


def _is_new(document: str, share: float) -> bool:
    return int(hashlib.md5(document.encode()).hexdigest(), 16) / 16**32 < share


if __name__ == "__main__":
    run(rows)
