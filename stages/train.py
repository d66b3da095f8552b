"""train NAME: the encoded train and valid splits -> one trained model a seed, whole, and its training's history."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.model.folder import SavedModel, TextRules, save_model
from pipeline.params import CellParams, Params, load_params
from pipeline.provenance.code import code_lines
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import sha256
from pipeline.runtime.paths import (
    ENCODED,
    MODELS,
    SEEDS_FILE,
    SEEDS_FOLDER,
    TIMINGS,
    VOCABULARY,
    WEIGHTS_FILE,
    seed_folders,
)
from pipeline.runtime.progress import duration
from pipeline.runtime.stage import run_stage
from pipeline.runtime.stopping import heeded_signals
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.listener import TrainingRun
from pipeline.training.automatic import in_numbers, told
from pipeline.training.checkpoint import Checkpoints, training_key
from pipeline.training.first_weights import beginning, model_files
from pipeline.training.history import HISTORY_FILE, read_history, remark, write_history, write_seeds
from pipeline.training.params import TrainParams
from pipeline.training.trained import Trained
from pipeline.training.trainer import Trainer


def train() -> None:
    """Write data/models/NAME/: model.safetensors, config.json, vocabulary.tsv, history.csv; and the other seeds'."""
    if len(sys.argv) != 2:
        raise InputError("say which cell of params.yaml to train: python -m stages.train NAME")
    project = load_params()
    recipe = project.cell(sys.argv[1])
    if recipe.train.precision == "exact":
        warn_if_not_exact()
    vocabulary = Vocabulary.load(VOCABULARY)
    splits = load_split(ENCODED / "train"), load_split(ENCODED / "valid")
    params = in_numbers(recipe.train, recipe.model, splits[0].tokens)
    if named := told(recipe.train, params):
        print(f"{recipe.name}: {splits[0].tokens:,} training tokens, for which `auto` is {named}")
    recipe = replace(recipe, train=params)
    data = [VOCABULARY, *sorted(ENCODED.glob("train/*")), *sorted(ENCODED.glob("valid/*"))]
    data += model_files()
    # Not data/pins/train.txt, which may be older than the code that runs here.
    code = code_lines("train", Path(__file__).parents[1])

    def key(train: dict[str, object]) -> str:
        return training_key(code, data, {"model": recipe.model.model_dump(), "train": train})

    trained = Trained(recipe.name, key(recipe.train.model_dump(exclude={"seed"})))
    trained.begin(recipe.seeds)
    for cell in recipe.each_seed:
        seed, folder = cell.train.seed, MODELS / cell.folder
        if trained.restore(seed, folder):
            print(f"{cell.name}, seed {seed}: trained before")
            continue
        _train_seed(project, cell, Checkpoints(cell.name, key(cell.train.model_dump())), vocabulary, splits)
        trained.keep(seed, folder)
    wanted = {MODELS / cell.folder for cell in recipe.each_seed}
    for folder in set(seed_folders(MODELS / recipe.name)) - wanted:  # of an earlier run that DVC did not start
        shutil.rmtree(folder)
    histories = {cell.train.seed: read_history(MODELS / cell.folder / HISTORY_FILE) for cell in recipe.each_seed}
    write_seeds(MODELS / recipe.name / SEEDS_FOLDER / SEEDS_FILE, histories)
    trained.end(recipe.seeds)


def _train_seed(
    project: Params,
    cell: CellParams,
    checkpoints: Checkpoints,
    vocabulary: Vocabulary,
    splits: tuple[EncodedSplit, EncodedSplit],
) -> None:
    """Train one model, or go on with it, and write its folder."""
    assert isinstance(cell.train, TrainParams)  # in numbers
    folder, (train_split, valid_split) = MODELS / cell.folder, splits
    listener = TrainingRun(project, cell, len(vocabulary), checkpoints.folder / "mlflow_run")
    model, started = beginning(cell.model, vocabulary, cell.train)
    called = f"{cell.name}, seed {cell.train.seed}," if cell.seeds > 1 else cell.name
    if started:
        print(f"{called} {started}")
    try:
        with heeded_signals() as stop:
            trainer = Trainer(model, train_split, valid_split, vocabulary.counts, cell.train, checkpoints, stop)
            expected = duration(trainer.expected_seconds())
            print(f"{called} training takes about {expected}, less if validation stops improving", flush=True)
            before = checkpoints.seconds
            history = trainer.fit(listener)
        took = duration(checkpoints.seconds - before)
        print(f"{called} trained in {took}, {history[-1].steps:,} steps in all")
        if remarked := remark(history):
            print(f"note on {cell.name}: {remarked}")
        save_model(SavedModel(model, vocabulary, TextRules.of(project.tokenize), cell.train.model_dump()), folder)
        write_history(folder / HISTORY_FILE, history)
    except BaseException as error:
        listener.failed(killed=isinstance(error, StoppedError) or not isinstance(error, Exception))
        raise
    # Times differ from run to run, so no output of the stage holds them.
    seconds = checkpoints.seconds
    timing: dict[str, object] = {"seconds": seconds, "tokens_per_second": len(history) * train_split.tokens / seconds}
    timing[WEIGHTS_FILE] = sha256(folder / WEIGHTS_FILE)  # so that they are shown beside these alone
    write_text(TIMINGS / f"{cell.folder}.json", json.dumps(timing) + "\n")
    listener.finished(seconds)
    checkpoints.discard()


if __name__ == "__main__":
    run_stage(train)
