"""Models whose quality is known without training: they predict every word by a fixed frequency."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.results import BASELINES
from pipeline.evaluation.scores import NATS_IN, TOKENS_IN
from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.provenance.dvc import StageRecord, dvc_digest
from pipeline.review.challenger import log_challenger
from pipeline.runtime.paths import TOKENS
from pipeline.text.tokens import TOKEN_SCHEMA, read_documents_of, read_tokens
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.tracking import runs
from pipeline.tracking.record import Provenance
from pipeline.tracking.store import Store
from pipeline.training.history import EpochRecord, write_history
from tests.conftest import saved_model, vocabulary_of
from tests.projects import Project, lock_everything

TYPES = 40


def rnnlm(*arguments: str) -> Any:
    """The command, in this process."""
    return CliRunner().invoke(app, arguments)


def write_corpus(sentences: int = 200) -> None:
    """Sentences of words `w0` to `w39`, the first ones far more frequent than the last, in three splits."""
    generator = np.random.default_rng(1)
    frequency = np.arange(1, TYPES + 1) ** -1.5
    drawn = generator.choice(TYPES, (3 * sentences, 8), p=frequency / frequency.sum())
    rows = [[f"w{rank}" for rank in sentence] for sentence in drawn]
    splits = [split for split in ("train", "valid", "test") for _ in range(sentences)]
    documents = [f"d{number // 2}" for number in range(len(rows))]
    TOKENS.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"document": documents, "split": splits, "tokens": rows}, schema=TOKEN_SCHEMA), TOKENS)


def counts() -> dict[str, int]:
    """Of every type in the training split, those that do not occur there once."""
    table = pq.read_table(TOKENS)
    found = {f"w{rank}": 1 for rank in range(TYPES)}
    for split, tokens in zip(table["split"].to_pylist(), table["tokens"].to_pylist(), strict=True):
        for token in tokens if split == "train" else []:
            found[token] += 1
    return found


def candidate(
    project: Project, power: float = 1.0, words: int | None = None, valid: float = 5.0, ngram: float = 1.2
) -> Vocabulary:
    """What the pipeline leaves once it has trained and evaluated a model, in data/ and in MLflow.

    Args:
        project: the folder; its corpus is that of `write_corpus`.
        power: of the true frequencies in the model's: 1 is the best model, 0 gives all words the same.
        words: that it knows, the most frequent ones; None: all.
        valid: its perplexity on the validation split, as its history claims.
        ngram: nats that n-grams spend where it spends 1; as a figure of data/ only, no n-gram is made.
    """
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cells"] = {"lstm": {"cell": "lstm", "output_bias": True}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    cell = load_params().cell("lstm")
    vocabulary = vocabulary_of(counts(), None if words is None else words + 3, sentences=200)
    vocabulary.save(Path("data/vocabulary.tsv"))
    for split in ("train", "valid", "test"):
        ids = np.array([START_ID, 2, END_ID], np.uint16)
        np.save(Path("data/encoded") / split / "ids.npy", ids)
        np.save(Path("data/encoded") / split / "offsets.npy", np.array([0, len(ids)]))
    model = LanguageModel(cell.model, len(vocabulary))
    frequency = torch.tensor(vocabulary.counts, dtype=torch.float64).clamp(min=1e-3)
    with torch.no_grad():
        assert model.c is not None
        model.c.copy_(power * frequency.log())
    save_model(saved_model(model, vocabulary, load_params().tokenize.lowercase), project.models)
    history = [EpochRecord(1, 4, 0.01, 2.5, float(np.log(valid)), valid)]
    write_history(project.models / "history.csv", history)
    project.evaluate(perplexity=valid)
    write_scores(project.evaluation / "sentences.parquet", 1.0)
    for name in BASELINES:
        write_scores(project.evaluation.parent / "baselines" / "sentences" / f"{name}.parquet", ngram)
    lock(project)
    runs.log_evaluation(load_params(), cell.name)
    runs.log_report(["lstm"])
    log_challenger(["lstm"])
    return vocabulary


def as_before(project: Project, kept: Path, make: Callable[[], None]) -> None:
    """Do `make` in the project's folder, or leave there what it did the first time, which is in the folder `kept`."""
    from mlflow.tracking._tracking_service import utils

    if kept.exists():
        shutil.copytree(kept, project.folder, dirs_exist_ok=True)
        # By the id of the run, for all stores of a process: it would write into the folder of an earlier test.
        utils._artifact_repos_cache.clear()
        assert rnnlm("relocate").exit_code == 0
    else:
        make()
        shutil.copytree(project.folder, kept)


def write_scores(path: Path, nats: float) -> None:
    """What paired tests need of the scores of a model that spends so many nats on each token of the test split."""
    tokens = np.concatenate([rows.value_lengths().to_numpy() + 1 for rows in read_tokens(TOKENS, "test")])
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"nats": nats * tokens, "tokens": tokens.astype(np.int64)}
    columns |= {f"{TOKENS_IN}all": columns["tokens"], f"{NATS_IN}all": columns["nats"]}
    columns["document"] = read_documents_of(TOKENS, "test")
    pq.write_table(pa.table(columns), path)


def lock(project: Project) -> None:
    """Write dvc.lock, the tokens included."""
    lock_everything()
    content = yaml.safe_load(Path("dvc.lock").read_text())
    tokens = [{"path": str(TOKENS), "md5": dvc_digest(TOKENS)}]
    content["stages"]["tokenize"]["outs"] = content["stages"]["train@lstm"]["deps"] = tokens
    folder = project.evaluation.parent / "baselines" / "sentences"
    outs = [{"path": str(folder), "md5": dvc_digest(folder)}]
    content["stages"]["baselines"] = {"cmd": "as dvc.yaml has it", "outs": outs}
    Path("dvc.lock").write_text(yaml.safe_dump(content))


def record(store: Store, run_id: str, **changes: Any) -> None:
    """Give a run the record of its files that its training run would have left, but for `changes`."""
    tokenize = {"language": "english", "splits": {"train": 92, "valid": 4, "test": 4}} | changes.get("tokenize", {})
    stages = {
        "pins": StageRecord({"pipeline": changes.get("code", "1"), "stages": "1"}, {}, {}),
        "tokenize": StageRecord(
            {"pipeline/text/tokenizer.py": changes.get("code", "1"), "data/raw/documents.parquet": "2"},
            {"data/tokens/sentences.parquet": "3"},
            {"tokenize": tokenize},
        ),
        "download": StageRecord({}, {}, {"download": {"path": changes.get("path", "corpus")}}),
        "train": StageRecord(
            {
                "data/encoded/train": "4",
                "data/vocabulary.tsv": changes.get("data", "5"),
                "data/pins/train.txt": changes.get("pins", "6"),
            },
            {},
            {"train": {"seed": changes.get("seed", 1)}},
            changes.get("did", {}),
        ),
        "evaluate": StageRecord({"data/models/lstm": changes.get("model", "7")}, {}, {}),
    }
    path = Path("provenance.json")
    path.write_text(json.dumps(dataclasses.asdict(Provenance("c0", {}, stages))))
    store.client.log_artifact(run_id, str(path), "provenance")
