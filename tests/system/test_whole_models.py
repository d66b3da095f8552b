"""A model is whole: once corpus, vocabulary and text rules are others, it still reads the old text as it did."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.inference.predictor import Predictor
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.review.comparison import compare_models
from pipeline.review.names import find
from pipeline.runtime.errors import InputError
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.tracking.store import connect
from pipeline.training.automatic import in_numbers
from pipeline.training.first_weights import warm_start
from stages.evaluate import evaluate
from stages.train import train
from tests.conftest import DURATION, vocabulary_of
from tests.projects import SENTENCES, Project

TEXT = "The cat sees the dog."
NEW_WORDS = {"dog": 9, "the": 8, ".": 7, "bird": 6, "flies": 5}  # as many as before, so that a count tells nothing
AUTO = "batch_tokens 128, learning_rate 0.01, weight_decay 0.03"  # of so short a text
MODELS = ("lstm", "data/models/lstm", "models:/rnnlm/1")


def rnnlm(*arguments: str, text: str | None = None) -> str:
    done = CliRunner().invoke(app, arguments, input=text)
    assert done.exit_code == 0, done.output
    return done.stdout


def answers() -> dict[str, Any]:
    """What the model says of the old text, in each of its uses."""
    import mlflow

    store = connect()
    served: Any = mlflow.pyfunc.load_model("models:/rnnlm/1")
    run = find(store, "v1")
    params = load_params()
    # As the model's: a comparison is refused where today's test sentences are read by other rules.
    read: dict[str, Any] = {"tokenize": params.tokenize.model_copy(update={"lowercase": True})}
    params = params.__class__(**vars(params) | read)
    said: dict[str, Any] = {
        "serving": [served.predict([TEXT], {"task": task}).to_dict() for task in ("score", "suggest", "generate")],
        "comparison": compare_models(store, run, run, params, Path("old.parquet")).result,
    }
    for model in MODELS:
        said[f"score {model}"] = rnnlm("score", "-", "--model", model, text=TEXT + "\n")
        said[f"suggest {model}"] = rnnlm("suggest", "The cat", "--model", model)
        said[f"generate {model}"] = rnnlm("generate", "--prompt", "The cat", "--model", model, "--count", "3")
    old = Predictor.load(Path("data/models/lstm"))
    later = LanguageModel(old.model.params, len(old.vocabulary), torch.Generator().manual_seed(9))
    said["warm start"] = warm_start(later, old.vocabulary, Path("data/models/lstm"))
    said["weights"] = {name: weight.tolist() for name, weight in later.state_dict().items()}
    return said


def replace_the_text() -> None:
    """What the text stages leave of another corpus, under other rules; no model is trained on it yet."""
    vocabulary = vocabulary_of(NEW_WORDS, None, sentences=3)
    vocabulary.save(Path("data/vocabulary.tsv"))
    rows = [vocabulary.sentence_ids(tokens) for tokens in (["bird", "flies", "."], ["the", "dog", "."])]
    for split in ("train", "valid", "test"):
        np.save(f"data/encoded/{split}/ids.npy", np.concatenate(rows).astype(np.uint16))
        np.save(f"data/encoded/{split}/offsets.npy", np.cumsum([0, *map(len, rows)]))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["tokenize"]["lowercase"] = False
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_after_new_text_the_old_model_says_what_it_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/warm_start").mkdir()
    Path("data/warm_start/warm_start.json").write_text("{}\n")
    monkeypatch.setattr(sys, "argv", ["stage", "lstm"])
    train()
    evaluate()
    metrics = (project.evaluation / "metrics.json").read_bytes()
    columns = {"document": ["d"] * 3, "split": ["test"] * 3, "tokens": SENTENCES}
    pq.write_table(pa.table(columns, schema=TOKEN_SCHEMA), "old.parquet")

    before = answers()
    assert len({before[f"score {model}"] for model in MODELS}) == 1
    assert before["serving"][0]["log_probability"][0] == pytest.approx(float(before["score lstm"].split()[0]), abs=1e-5)
    trained = in_numbers(project.cell.train, project.cell.model, 14).model_dump()
    assert json.loads((project.models / "config.json").read_text())["train"] == trained

    replace_the_text()
    assert answers() == before
    with pytest.raises(InputError, match=r"trained with another vocabulary than data/vocabulary\.tsv; run `dvc repro`"):
        evaluate()
    assert (project.evaluation / "metrics.json").read_bytes() == metrics


def test_what_auto_came_to_is_on_record(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/warm_start").mkdir()
    Path("data/warm_start/warm_start.json").write_text("{}\n")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train"] |= {"epochs": 2, "batch_tokens": "auto", "learning_rate": "auto"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(sys, "argv", ["stage", "lstm"])
    train()
    evaluate()
    said = capsys.readouterr().out
    assert f"lstm: 14 training tokens, for which `auto` is {AUTO}\n" in said
    times = rf"lstm training takes about {DURATION}, less if .*\nlstm trained in {DURATION}, 2 steps in all\n"
    assert re.search(times, said)
    assert "note on lstm: training took only 2 steps" in said
    recorded = json.loads((project.models / "config.json").read_text())["train"]
    assert (recorded["epochs"], recorded["batch_tokens"], recorded["learning_rate"]) == (2, 128, 0.01)
    (run,) = connect().runs()  # one, not another for the evaluation
    assert (run.data.params["train.batch_tokens"], run.data.params["train.epochs"]) == ("128", "2")
    assert run.data.tags["auto"] == AUTO
    note = run.data.tags["mlflow.note.content"]
    assert f"Chosen for the size of the corpus: {AUTO}." in note
    assert "**Note**: training took only 2 steps" in note
