"""A tiny project whose text is prepared, as `dvc repro encode warm_start` leaves it, but without a test split."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.provenance.dvc import dvc_digest
from tests.projects import SENTENCES, Project, load_params_file

SEARCH = {"cell": ["lstm", "gru"], "hidden_size": {"low": 2, "high": 9}, "learning_rate": {"low": 0.01, "high": 0.1}}


@pytest.fixture
def prepared(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("pipeline.training.trainer.TRIAL_BATCHES", 1)
    monkeypatch.setattr("pipeline.tuning.trials.MOST_DRAWS", 6)  # of spaces that have two recipes
    shutil.rmtree("data/encoded/test")
    shutil.rmtree(project.models)
    rows = [project.vocabulary.sentence_ids(tokens) for tokens in SENTENCES * 20]
    np.save("data/encoded/train/ids.npy", np.concatenate(rows).astype(np.uint16))
    np.save("data/encoded/train/offsets.npy", np.cumsum([0, *map(len, rows)]))
    Path("data/warm_start").mkdir()
    change(lambda params: params["train"].update(epochs=2, batch_tokens=64) or params.update(tune={"search": SEARCH}))
    lock_text()
    return project


def change(how: Callable[[dict[str, Any]], object]) -> None:
    """Change params.yaml."""
    params = load_params_file()
    how(params)
    Path("params.yaml").write_text(yaml.safe_dump(params))


def lock_text() -> None:
    """Write dvc.lock as DVC does after the text stages."""
    params = load_params_file()
    paths = ("data/vocabulary.tsv", "data/encoded/train", "data/encoded/valid")
    made = {path: dvc_digest(Path(path)) for path in paths}
    documents, tokens = {"data/raw/documents.parquet": "d"}, {"data/tokens/sentences.parquet": "t"}
    stages = {
        "download": ({"corpus": "c"}, documents, {"download": params["download"]}),
        "tokenize": (documents, tokens, {"tokenize": params["tokenize"]}),
        "vocabulary": (tokens, {paths[0]: made[paths[0]]}, {"vocabulary.size": params["vocabulary"]["size"]}),
        "encode": (tokens, {**made, "data/encoded/test": "e"}, {}),
    }

    def entries(digests: dict[str, str]) -> list[dict[str, str]]:
        return [{"path": path, "md5": digest} for path, digest in digests.items()]

    lock = {
        name: {"cmd": "", "deps": entries(deps), "outs": entries(outs), "params": {"params.yaml": values}}
        for name, (deps, outs, values) in stages.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
