"""A tiny trained project in a temporary folder, and a database whose tables are there already."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from pipeline.evaluation.page_frame import FOOT, PAGE_FILE
from pipeline.evaluation.scores import MEASURES, write_metrics
from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import CellParams, Params, load_params
from pipeline.runtime.paths import MODEL_FILES
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.history import EpochRecord, write_history
from tests.conftest import PROJECT, saved_model, vocabulary_of
from tests.forking import wait_for_no_disk

WORDS = {"the": 9, "cat": 5, "dog": 4, "sees": 3, ".": 6}
SENTENCES = [["the", "cat", "sees", "the", "dog", "."], ["the", "dog", "."], ["a", "cat"]]
HISTORY = [EpochRecord(1, 4, 0.01, 2.5, 2.0, 7.39), EpochRecord(2, 8, 0.005, 1.5, 1.75, 5.75)]


wait_for_no_disk()


@dataclass
class Project:
    """The current folder, set up as `dvc repro` would leave it; nothing is in MLflow yet."""

    folder: Path
    cell: CellParams
    vocabulary: Vocabulary

    @property
    def params(self) -> Params:
        return load_params()

    @property
    def models(self) -> Path:
        return Path("data/models") / self.cell.name

    @property
    def evaluation(self) -> Path:
        return Path("data/evaluation") / self.cell.name

    def train(self, seed: int = 1) -> LanguageModel:
        """What the stage `train` leaves; another seed gives other bytes."""
        model = LanguageModel(self.cell.model, len(self.vocabulary), torch.Generator().manual_seed(seed)).eval()
        save_model(saved_model(model, self.vocabulary, load_params().tokenize.lowercase), self.models)
        write_history(self.models / "history.csv", HISTORY)
        return model

    def evaluate(self, perplexity: float = 6.0) -> None:
        """What the stages `evaluate` and `report` leave."""
        values = dict.fromkeys(MEASURES, perplexity)
        intervals = {
            f"{key}_{end}": perplexity + shift for key in MEASURES for end, shift in (("low", -1), ("high", 1))
        }
        write_metrics(
            self.evaluation / "metrics.json",
            values | intervals | {"tokens": 9, "sentences": 3, "documents": 3, "effective_documents": 2.5},
        )
        (self.evaluation / "samples.txt").write_text("The cat sees the dog.\n*Not* markup\n")
        report = Path("data/report")
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.md").write_text(f"# Models\n\n| model | perplexity |\n\n{perplexity}\n\n## Curves\n\nmore\n")
        (report / "curves.png").write_bytes(b"\x89PNG")
        (report / PAGE_FILE).write_text(f"<h1>Models</h1>{FOOT}")


@cache
def empty_database() -> bytes:
    """The file of an MLflow database with tables and no run: making the tables takes seconds, so it is kept."""
    import mlflow

    kept = PROJECT / ".pytest_cache" / f"mlflow-{mlflow.__version__}.db"
    kept.parent.mkdir(exist_ok=True)
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with TemporaryDirectory() as folder:
                made = Path(folder, "mlflow.db")
                mlflow.MlflowClient(f"sqlite:///{made}").search_experiments()
                shutil.copy(made, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
    return kept.read_bytes()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("MLFLOW_TRACKING_URI", "RNNLM_TRACKING", "DVC_ROOT", "DVC_EXP_NAME"):
        # Set first, so that what the code under test puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    for name in ("constraints.txt", "dvc.yaml", ".dvcignore"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["model"]["hidden_size"] = 4
    content["train"] |= {"epochs": 3, "batch_tokens": 1024, "learning_rate": 0.015}
    content["retrain"]["seed_sd"] = 0.009
    content["cells"] = {"lstm": {"cell": "lstm"}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    vocabulary = vocabulary_of(WORDS, None, sentences=len(SENTENCES))
    vocabulary.save(Path("data/vocabulary.tsv"))
    for split in ("train", "valid", "test"):
        folder = Path("data/encoded") / split
        folder.mkdir(parents=True)
        rows = [vocabulary.sentence_ids(tokens) for tokens in SENTENCES]
        np.save(folder / "ids.npy", np.concatenate(rows).astype(np.uint16))
        np.save(folder / "offsets.npy", np.cumsum([0, *map(len, rows)]))
    np.save("data/encoded/test/documents.npy", np.arange(len(SENTENCES), dtype=np.int32))
    np.save("data/encoded/test/seen.npy", np.zeros(len(SENTENCES), bool))
    made = Project(tmp_path, load_params().cell("lstm"), vocabulary)
    made.train()
    made.evaluate()
    yield made
    import mlflow

    mlflow.end_run()


def lock_everything() -> None:
    """Write dvc.lock as DVC would: parameters and digests of what lies in data/."""
    from pipeline.provenance.dvc import dvc_digest

    params = load_params_file()
    stages = {
        "tokenize": (["tokenize"], []),
        "train@lstm": (
            ["model", "train", "cells.lstm"],
            [f"data/models/lstm/{name}" for name in (*MODEL_FILES, "history.csv")],
        ),
        "evaluate@lstm": (
            ["evaluate"],
            [f"data/evaluation/lstm/{name}" for name in ("metrics.json", "samples.txt")],
        ),
        "report": (["cells"], ["data/report"]),
    }
    lock = {
        name: {
            "cmd": "as dvc.yaml has it",
            "params": {"params.yaml": {key: _at(params, key) for key in keys}},
            "outs": [{"path": path, "md5": dvc_digest(Path(path))} for path in paths],
        }
        for name, (keys, paths) in stages.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": json.loads(json.dumps(lock))}))


def load_params_file() -> dict:
    return yaml.safe_load(Path("params.yaml").read_text())


def _at(params: dict, dotted: str) -> object:
    for key in dotted.split("."):
        params = params[key]
    return params


def as_commit_726b98c(model: Path, vocabulary: Path | None = None) -> str:
    """Turn a model folder, and where `vocabulary` says so a logged one, into what that commit left; returns its digest.

    Args:
        model: the folder that `save_model` wrote.
        vocabulary: where a logged model had its vocabulary, with text.json beside it; None: of data/models.
    """
    config = json.loads((model / "config.json").read_text())
    flat = {"vocabulary_size": config["vocabulary_size"], **config["model"]}
    (model / "config.json").write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n")
    if vocabulary is None:
        (model / "vocabulary.tsv").unlink()
    else:
        (model / "vocabulary.tsv").rename(vocabulary)
        vocabulary.with_name("text.json").write_text(json.dumps(config["text"]) + "\n")
    return hashlib.sha256((model / "model.safetensors").read_bytes() + (model / "config.json").read_bytes()).hexdigest()
