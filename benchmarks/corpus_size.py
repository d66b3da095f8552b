"""Whether what `auto` chooses suits corpora of all sizes: networks against the trigram, on subsets of a corpus.

A subset has so many training sentences of `data/tokens/sentences.parquet`, drawn by a hash, and 600 validation
sentences of the whole, so that small subsets are judged as exactly as large ones. Perplexity is that of the epoch
kept; the trigram learns from the same. A ratio above 1 means that the network is better. `python -m
benchmarks.corpus_size --sentences 500 --set epochs=20` tries other values of section `train`; it
needs `dvc repro tokenize` before.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
import typer
import yaml

from benchmarks.harness import JsonFile, Result, report, start
from benchmarks.quality import train_silently
from benchmarks.warm_start import encoded
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import TOKENS
from pipeline.text.encoded import load_split
from pipeline.text.unknown import with_unknown_words
from pipeline.training.automatic import in_numbers
from pipeline.training.params import TrainSettings
from pipeline.training.trainer import validation_nats

HELD_OUT = 600  # sentences


def main(
    tokens: Annotated[Path, typer.Option(help="what the stage `tokenize` wrote")] = TOKENS,
    sentences: Annotated[list[int] | None, typer.Option(help="of training; may be repeated; default: all")] = None,
    cell: Annotated[str, typer.Option(help="of params.yaml")] = "lstm",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="in section `train`")] = None,
    json_file: JsonFile = None,
) -> None:
    """A row for each size."""
    if not tokens.is_file():
        raise InputError(f"{tokens} is missing; run `dvc repro tokenize` first")
    changed = {key: yaml.safe_load(value) for key, _, value in (change.partition("=") for change in changes or [])}
    report(rows(parquet.read_table(tokens), sentences or [0], cell, changed), json_file)


def rows(table: pa.Table, sizes: list[int], name: str, changed: dict[str, object]) -> Iterator[Result]:
    """One result for each number of training sentences; 0 stands for all."""
    params = load_params()
    cell = params.cell(name)
    settings = TrainSettings.model_validate(dict(cell.train) | changed)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            day = encoded(subset(table, size or len(table)), Path(folder) / "subset", params.vocabulary.size)
            splits = {split: load_split(day.folder / split) for split in ("train", "valid")}
            train, counts = in_numbers(settings, cell.model, splits["train"].tokens), day.vocabulary.counts
            model = LanguageModel(cell.model, len(counts), torch.Generator().manual_seed(train.seed))
            train_silently(model, splits, day.vocabulary, train)
            ours = math.exp(validation_nats(model, splits["valid"], train.batch_tokens))
            learned = with_unknown_words(splits["train"], counts, seed=0, epoch=0)
            nats, _ = KneserNey(learned, len(counts), 3).score(splits["valid"])
            theirs = math.exp(nats.mean())
            called = f"{name}_{len(splits['train'])}_sentences_{splits['train'].tokens}_tokens"
            yield Result(called, "trigram", ours, theirs, "validation perplexity", theirs / ours, 0.0)


def subset(table: pa.Table, size: int) -> pa.Table:
    """The rows of so many training sentences and of those held out, in their order."""
    split = np.array(table["split"].to_pylist())
    kept = np.zeros(len(split), bool)
    for name, number in (("train", size), ("valid", HELD_OUT), ("test", 1)):
        ranked = sorted(np.flatnonzero(split == name), key=lambda row: hashlib.md5(str(row).encode()).digest())
        kept[ranked[:number]] = True
    return table.filter(pa.array(kept))


if __name__ == "__main__":
    start(main)
