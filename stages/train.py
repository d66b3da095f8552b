"""train NAME: the encoded train and valid splits -> one trained model and the history of its training."""

import json
import sys
import time
from pathlib import Path

import torch

from pipeline.errors import InputError
from pipeline.files import write_text
from pipeline.model.language_model import LanguageModel, save_model
from pipeline.params import load_params
from pipeline.stage import run
from pipeline.text.encoded import load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.runs import training_listener
from pipeline.training.history import write_history
from pipeline.training.trainer import train as train_model


def train() -> None:
    """Write data/models/NAME/: model.safetensors, config.json and history.csv."""
    if len(sys.argv) != 2:
        raise InputError("say which cell of params.yaml to train: python -m stages.train NAME")
    cell = load_params().cell(sys.argv[1])
    folder = Path("data/models") / cell.name
    vocabulary = Vocabulary.load(Path("data/vocabulary.tsv"))
    train_split, valid_split = load_split(Path("data/encoded/train")), load_split(Path("data/encoded/valid"))

    start = time.perf_counter()
    model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(cell.train.seed))
    listener = training_listener(cell, len(vocabulary), folder)
    try:
        history = train_model(model, train_split, valid_split, vocabulary.counts, cell.train, listener)
        save_model(model, folder)
        write_history(folder / "history.csv", history)
    except BaseException as error:
        listener.failed(killed=not isinstance(error, Exception))
        raise
    seconds = time.perf_counter() - start
    # A time is different in every run, so it stands in no output of the stage.
    timing = {"seconds": seconds, "tokens_per_second": len(history) * train_split.tokens / seconds}
    write_text(Path(".rnnlm/timings") / f"{cell.name}.json", json.dumps(timing) + "\n")
    listener.finished(seconds)


if __name__ == "__main__":
    run(train)
