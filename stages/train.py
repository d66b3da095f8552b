"""train NAME: the encoded train and valid splits -> one trained model, whole, and the history of its training."""

import json
import sys
from pathlib import Path

import torch

from pipeline.model.folder import SavedModel, TextRules, save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.provenance.code import code_lines
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import ENCODED, MODELS, TIMINGS, VOCABULARY
from pipeline.runtime.stage import run_stage
from pipeline.runtime.stopping import heeded_signals
from pipeline.text.encoded import load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.listener import TrainingRun
from pipeline.training.checkpoint import Checkpoints, training_key
from pipeline.training.first_weights import model_files, warm_start
from pipeline.training.history import write_history
from pipeline.training.trainer import Trainer


def train() -> None:
    """Write data/models/NAME/: model.safetensors, config.json, vocabulary.tsv and history.csv."""
    if len(sys.argv) != 2:
        raise InputError("say which cell of params.yaml to train: python -m stages.train NAME")
    project = load_params()
    cell = project.cell(sys.argv[1])
    if cell.train.precision == "exact":
        warn_if_not_exact()
    folder = MODELS / cell.name
    vocabulary = Vocabulary.load(VOCABULARY)
    train_split, valid_split = load_split(ENCODED / "train"), load_split(ENCODED / "valid")
    data = [VOCABULARY, *sorted(ENCODED.glob("train/*")), *sorted(ENCODED.glob("valid/*"))]
    data += model_files()
    sections = {"model": cell.model.model_dump(), "train": cell.train.model_dump()}

    # Not data/pins/train.txt, which may be older than the code that runs here.
    code = code_lines("train", Path(__file__).parents[1])
    checkpoints = Checkpoints(cell.name, training_key(code, data, sections))
    listener = TrainingRun(project, cell.name, len(vocabulary), checkpoints.folder / "mlflow_run")
    model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(cell.train.seed))
    started = warm_start(model, vocabulary)
    if started:
        print(f"{cell.name} {started}")
    try:
        with heeded_signals() as stop:
            trainer = Trainer(model, train_split, valid_split, vocabulary.counts, cell.train, checkpoints, stop)
            history = trainer.fit(listener)
        text = TextRules(lowercase=project.tokenize.lowercase)
        save_model(SavedModel(model, vocabulary, text, cell.train.model_dump()), folder)
        write_history(folder / "history.csv", history)
    except BaseException as error:
        listener.failed(killed=isinstance(error, StoppedError) or not isinstance(error, Exception))
        raise
    # Times differ from run to run, so no output of the stage holds them.
    seconds = checkpoints.seconds
    timing = {"seconds": seconds, "tokens_per_second": len(history) * train_split.tokens / seconds}
    write_text(TIMINGS / f"{cell.name}.json", json.dumps(timing) + "\n")
    listener.finished(seconds)
    checkpoints.discard()


if __name__ == "__main__":
    run_stage(train)
