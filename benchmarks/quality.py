"""What speed costs in quality: the default cells trained as they ship, against the full softmax and against `auto`.

Each row is a perplexity on the default corpus's validation split (the test split justifies no default), after as many
epochs and from the same seed; a ratio above 1 means that ours is better. `python -m benchmarks.quality --json FILE`
takes half an hour on 2 cores and needs one `make repro` before. With `--race RECIPE` it measures instead how long a
recipe takes, or how good it is in equal time, against PyTorch's example word_language_model (race.py).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
import typer

from benchmarks import race
from benchmarks.harness import JsonFile, Result, report, start
from pipeline.model.language_model import LanguageModel
from pipeline.params import CellParams, load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.history import EpochRecord
from pipeline.training.params import TrainParams
from pipeline.training.trainer import Trainer, validation_nats

CHANGES = {
    "full softmax": {"sampled_words": None},
    "auto": {"precision": "auto"},
    "full softmax, auto": {"sampled_words": None, "precision": "auto"},
}


def rows() -> Iterator[Result]:
    """Sampled against full for every cell; for the LSTM also fp32 against `auto`, with either softmax."""
    if not ENCODED.is_dir():
        raise InputError(f"{ENCODED} is missing; run `make repro` first")
    for cell in load_params().cells.values():
        ours = perplexity(cell)
        for name, change in CHANGES.items():
            if name == "full softmax" or cell.name == "lstm":
                theirs = perplexity(cell, **change)
                row = f"perplexity_{cell.name}_{name.replace(', ', '_').replace(' ', '_')}"
                yield Result(row, f"trained with {name}", ours, theirs, "validation perplexity", theirs / ours, 0.0)


def perplexity(cell: CellParams, **change: object) -> float:
    """Validation perplexity after a training run with `change` made to section `train`."""
    vocabulary = Vocabulary.load(VOCABULARY)
    splits = {split: load_split(ENCODED / split) for split in ("train", "valid")}
    params = in_numbers(cell.train.model_copy(update=change), cell.model, splits["train"].tokens)
    model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(params.seed))
    train_silently(model, splits, vocabulary, params)
    return math.exp(validation_nats(model, splits["valid"], params.batch_tokens))


def train_silently(
    model: LanguageModel, splits: Mapping[str, EncodedSplit], vocabulary: Vocabulary, params: TrainParams
) -> list[EpochRecord]:
    """Train on the split `train`, as the stage does, without checkpoints and MLflow; returns its history."""
    return Trainer(model, splits["train"], splits["valid"], vocabulary.counts, params).fit(_Silent())


class _Silent:
    """A listener that does nothing: progress on standard error is enough."""

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None: ...

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None: ...

    def finished(self, seconds: float) -> None: ...

    def failed(self, killed: bool) -> None: ...


def main(
    recipe: Annotated[str | None, typer.Option("--race", metavar="RECIPE", help="time it against its peer")] = None,
    as_long: Annotated[bool, typer.Option("--equal-time", help="give the peer as long as the recipe takes")] = False,
    changes: Annotated[list[str] | None, typer.Option("-S", metavar="KEY=VALUE", help="as in `rnnlm recipe`")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the cells of params.yaml, or race a recipe: to the peer's last validation perplexity, or as long."""
    if recipe is None:
        if as_long or changes:
            raise InputError("--equal-time and -S belong to --race RECIPE")
        report(rows(), json_file)
    else:
        report((race.equal_time if as_long else race.to_their_end)(recipe, changes or []), json_file)


if __name__ == "__main__":
    start(main)
