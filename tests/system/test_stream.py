"""A model that was trained on running text is read as one everywhere, and so has one perplexity."""

import itertools
import json
import math
import sys
from collections import Counter
from dataclasses import replace
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
from pipeline.evaluation.reading import ReadOnce
from pipeline.inference import predictor as module
from pipeline.inference.generation import Decoding
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.model.folder import load_model
from pipeline.review.comparison import compare_models
from pipeline.review.names import find
from pipeline.text.encoded import load_split
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.text.vocabulary import END_ID
from pipeline.tracking.store import connect
from stages.evaluate import evaluate
from stages.train import train
from tests.projects import Project

LINES = ["The cat sees the dog.", "The dog sees the cat.", "The dog."] * 6 + ["The cat.", "The dog sees."] * 5


@pytest.fixture
def trained(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with a model of running text that the stages have trained and evaluated, on `LINES`."""
    rows = [line.lower().replace(".", " .").split() for line in LINES]
    ids = [project.vocabulary.sentence_ids(tokens) for tokens in rows]
    for split in ("train", "valid", "test"):
        np.save(f"data/encoded/{split}/ids.npy", np.concatenate(ids).astype(np.uint16))
        np.save(f"data/encoded/{split}/offsets.npy", np.cumsum([0, *map(len, ids)]))
    np.save("data/encoded/test/documents.npy", np.arange(len(ids), dtype=np.int32) // 2)
    np.save("data/encoded/test/seen.npy", np.zeros(len(ids), bool))
    columns = {"document": [f"d{n // 2}" for n in range(len(ids))], "split": ["test"] * len(ids), "tokens": rows}
    pq.write_table(pa.table(columns, schema=TOKEN_SCHEMA), "tokens.parquet")
    Path("data/warm_start").mkdir()
    Path("data/warm_start/warm_start.json").write_text("{}\n")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cells"]["lstm"] |= {"context": "stream", "streams": 2, "bptt": 5, "epochs": 8, "learning_rate": 0.05}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(sys, "argv", ["stage", "lstm"])
    monkeypatch.setattr(module, "BATCH_TOKENS", 16)  # several windows, which end within sentences
    train()
    evaluate()
    return project


def test_evaluation_runs_the_test_text_once_for_scores_and_words(trained: Project, monkeypatch) -> None:
    before, counts = (trained.evaluation / "words.parquet").read_bytes(), Counter()

    class Counting(ReadOnce):
        def read(self, *arguments: Any, **options: Any) -> Any:
            counts["read"] += 1
            before = counts["run"]
            h_NH = super().read(*arguments, **options)
            counts["read by running"] += counts["run"] - before
            return h_NH

        def _run(self, *arguments: Any, **options: Any) -> Any:
            counts["run"] += 1
            return super()._run(*arguments, **options)

    monkeypatch.setattr("stages.evaluate.ReadOnce", Counting)
    evaluate()
    assert counts["read"] == 2 * counts["read by running"] > 0
    assert (trained.evaluation / "words.parquet").read_bytes() == before


def test_score_server_comparison_and_metrics_give_one_perplexity_and_suggestions_go_with_it(trained: Project) -> None:
    import mlflow

    recorded = json.loads((trained.models / "config.json").read_text())["train"]
    assert (recorded["context"], recorded["streams"], recorded["bptt"]) == ("stream", 2, 5)
    metrics = json.loads((trained.evaluation / "metrics.json").read_text())
    assert metrics["documents"] == 14  # intervals draw documents as ever

    predictor = Predictor.load(trained.models)
    text = [END_ID, *(id_ for line in predictor.tokens(LINES) for id_ in predictor.vocabulary.sentence_ids(line)[1:])]
    nats, state = 0.0, None
    for word, target in itertools.pairwise(text):
        logits, state = predictor.model.next_logits(torch.tensor([word]), state)
        nats -= logits[0].double().log_softmax(0)[target].item()
    assert metrics["tokens"] == len(text) - 1
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / (len(text) - 1)), rel=1e-5)

    Path("lines.txt").write_text("\n".join(LINES) + "\n")
    scored = CliRunner().invoke(app, ["score", "lines.txt", "--model", "lstm"])
    rows = [line.split("\t") for line in scored.stdout.splitlines()]
    by_command = math.exp(-sum(float(row[0]) for row in rows) / sum(int(row[1]) for row in rows))
    assert by_command == pytest.approx(metrics["perplexity"], rel=1e-5)

    answer: Any = mlflow.pyfunc.load_model("models:/rnnlm/1").predict(LINES)
    served = math.exp(-answer["log_probability"].sum() / answer["tokens"].sum())
    assert served == pytest.approx(metrics["perplexity"], rel=1e-5)

    store = connect()
    run = find(store, "v1")
    assert run.data.params["train.context"] == "stream"
    compared = compare_models(store, run, run, trained.params, Path("tokens.parquet")).result
    assert compared.perplexity_b == pytest.approx(metrics["perplexity"], rel=1e-5)

    # Read as sentences, which it has never seen begin, it would be another.
    saved = load_model(trained.models)
    sums = score_split(Predictor(replace(saved, train={})), load_split(Path("data/encoded/test")), "test").sentences
    assert math.exp(sums.nats.sum() / sums.tokens.sum()) > 1.1 * metrics["perplexity"]

    # And a text to be completed follows the end of a sentence.
    vocabulary, written, state, logits = predictor.vocabulary, ["the", "cat"], None, torch.empty(0)
    for id_ in [END_ID, *vocabulary.encode(written)]:
        logits, state = predictor.model.next_logits(torch.tensor([id_]), state)
    (suggested,) = predictor.suggest([written], 2)
    for word, probability in suggested:
        expected = logits[0].double().softmax(0)[vocabulary.encode([word])[0]].item()
        assert probability == pytest.approx(expected, rel=1e-5)
    ((sentence,),) = predictor.generate([written], 1, Decoding(1.0, 1, 4, 1))
    for word in sentence[2:]:
        assert vocabulary.encode([word])[0] == int(logits[0, :-1].argmax())
        logits, state = predictor.model.next_logits(torch.tensor(vocabulary.encode([word])), state)
    assert len(sentence) > 2
