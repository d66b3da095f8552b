"""When training ends, with which weights, and what is said where it diverges."""

import itertools
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.model.language_model import LanguageModel
from pipeline.runtime.errors import InputError
from pipeline.training.history import best_epoch
from pipeline.training.trainer import is_over, validation_nats
from stages import train as stage
from tests.conftest import PROJECT, vocabulary_of
from tests.training.conftest import (
    ONE_BATCH,
    SIZE,
    TRAIN,
    Remembers,
    fit,
    history,
    noise,
    train_params,
    weights,
)


def test_the_best_epochs_weights_are_kept_though_training_went_on(make_model):
    chance = (noise(12, seed=1), noise(12, seed=2))
    model, until_the_best = make_model(), make_model()
    records = fit(model, *chance, optimizer="sgd", learning_rate=1.0, epochs=12, patience=12)
    best = best_epoch(records)
    assert 1 < best.epoch < len(records) == 12
    assert records[-1].train_nats < best.train_nats  # it learnt by heart
    assert validation_nats(model, chance[1], 40) == best.valid_nats
    fit(until_the_best, *chance, optimizer="sgd", learning_rate=1.0, epochs=best.epoch, patience=12)
    assert weights(model) == weights(until_the_best)


def test_training_stops_when_patience_is_over_and_says_so(make_model, capsys):
    chance = (noise(12, seed=1), noise(12, seed=2))
    changes = {"optimizer": "sgd", "learning_rate": 1.0, "epochs": 12}
    whole = fit(make_model(), *chance, **changes, patience=12)
    assert "stopped" not in capsys.readouterr().err
    model = make_model()
    stopped = fit(model, *chance, **changes, patience=2)
    best = best_epoch(whole).epoch
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"stopped after epoch {best + 2} of 12, as none was better than epoch {best} since (train.patience 2)"
    )
    assert stopped == whole[: best_epoch(whole).epoch + 2]
    assert validation_nats(model, chance[1], 40) == best_epoch(whole).valid_nats


@pytest.mark.parametrize(
    ("valid_nats", "over"),
    [
        ([], False),
        ([5], False),
        ([5, 4, 3], False),
        ([5, 4, 3, 2, 1], True),  # all five epochs
        ([3, 4], False),
        ([3, 4, 5], True),
        ([3, 3, 3], True),  # as good is not better
        ([5, 3, 4], False),
        ([5, 3, 4, 3.5], True),
        ([3, 4, 2.9], False),
        ([3, 4, 2.9, 3.1], False),
    ],
)
def test_when_it_is_over(valid_nats, over):
    assert is_over(history(valid_nats=valid_nats), train_params(epochs=5, patience=2)) is over


def poison(model: LanguageModel, call: int) -> None:
    """Make the gradient of one of the steps infinite, `call` counted from 1."""
    calls = itertools.count(1)
    assert model.V is not None
    model.V.register_hook(lambda gradient: gradient * math.inf if next(calls) == call else gradient)


def nan_weight(model: LanguageModel) -> None:
    with torch.no_grad():
        next(model.parameters())[0, 0] = math.nan


@pytest.mark.parametrize(
    ("spoil", "changes", "expected"),
    [
        (nan_weight, {}, r"loss is nan in epoch 1, step 1 \(batch 1 of 6\)"),
        (lambda model: poison(model, 8), {}, r"gradient is (inf|nan) in epoch 2, step 8 \(batch 2 of 6\)"),
        (lambda _: None, {"learning_rate": 1e300}, r"loss is (inf|nan) in epoch 1, step 2 \(batch 2 of 6\)"),
        (
            lambda _: None,
            {"learning_rate": 1e300, "batch_tokens": ONE_BATCH},
            r"weight [\w.]+ is (inf|nan) after epoch 1",
        ),
        (lambda _: None, {"learning_rate": 1e15}, "validation perplexity is inf after epoch 1"),
    ],
)
def test_a_diverged_training_says_where_and_what_to_do(spoil, changes: dict[str, Any], expected, make_model):
    model = make_model()
    spoil(model)
    settings: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.25, "clip_norm": 0.125, **changes}
    with pytest.raises(InputError) as caught:
        fit(model, **settings)
    rate = settings["learning_rate"]
    advice = f"lower train.learning_rate ({rate:g}) or train.clip_norm (0.125) and train again"
    assert re.fullmatch(f"training diverged: {expected}; {re.escape(advice)}", str(caught.value))


def test_a_diverged_training_leaves_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["cells"] = {"wild": {"cell": "rnn", "optimizer": "sgd", "learning_rate": 1e300, "sampled_words": None}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    vocabulary_of({chr(97 + i): 9 for i in range(SIZE - 3)}, None, sentences=9).save(Path("data/vocabulary.tsv"))
    for split in ("train", "valid"):
        folder = Path("data/encoded") / split
        folder.mkdir(parents=True)
        np.save(folder / "ids.npy", TRAIN.ids)
        np.save(folder / "offsets.npy", TRAIN.offsets)
    Path("data/warm_start").mkdir()
    listener = Remembers()
    monkeypatch.setattr(stage, "TrainingRun", lambda *_: listener)
    monkeypatch.setattr(sys, "argv", ["train", "wild"])
    with pytest.raises(InputError, match="training diverged"):
        stage.train()
    assert listener.told[-1] == ("failed", False)
    shutil.rmtree("data/encoded")
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == ["data/vocabulary.tsv", "params.yaml"]
