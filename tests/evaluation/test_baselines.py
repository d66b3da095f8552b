import csv
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.evaluation.baselines import Unigram, baseline_scores
from pipeline.evaluation.results import BASELINES
from pipeline.evaluation.scores import summarise
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, Vocabulary
from tests.conftest import PROJECT

Encode = Callable[[Sequence[Sequence[int]]], EncodedSplit]


def test_the_unigram_is_counts_with_one_added(encode: Encode) -> None:
    # Six types can be predicted (1 to 6); tokens: 2 twice, 3 once, END twice, so 5 + 6 in all.
    model = Unigram(encode([[2, 2], [3]]), 7)
    nats, ranks = model.score(encode([[2, 6, 3]]))
    assert np.exp(-nats) == pytest.approx([3 / 11, 1 / 11, 2 / 11, 3 / 11])
    # By probability, then by id: END, 2, 3, 4, 5, 6.
    assert ranks.tolist() == [1, 5, 2, 0]
    nats, ranks = model.score(encode([[2, 3, 4, 5, 6]]))
    assert np.exp(-nats).sum() == pytest.approx(1)
    assert sorted(ranks) == list(range(6))


def test_the_baselines_are_those_the_comparison_shows_and_context_helps(encode: Encode) -> None:
    chance = np.random.default_rng(0)
    text = [[2 + (first + 5 * step) % 17 for step in range(6)] for first in chance.integers(0, 17, 200)]
    found = baseline_scores(encode(text[:150]), encode(text[150:]), [9] * 20)
    sums = {name: of_model for name, _, of_model in found}
    assert set(sums) == set(BASELINES)
    figures = {
        name: summarise(of.sentences, None, np.zeros(len(of.sentences), bool), 100, 0) for name, of in sums.items()
    }
    assert figures["fivegram"]["perplexity"] < figures["unigram"]["perplexity"] / 3
    assert figures["trigram"]["accuracy_top1"] > 0.6 > figures["unigram"]["accuracy_top1"]
    assert {(f["tokens"], f["sentences"]) for f in figures.values()} == {(350, 50)}


@pytest.fixture
def project(tmp_path: Path, vocabulary: Vocabulary, encode: Encode) -> Path:
    """What the stage `baselines` reads."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["evaluate"]["bootstrap_samples"] = 100
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    vocabulary.save(tmp_path / "data" / "vocabulary.tsv")
    chance = np.random.default_rng(0)
    for split, sentences in (("train", 60), ("test", 9)):
        encoded = encode([chance.integers(2, len(vocabulary), 5).tolist() for _ in range(sentences)])
        folder = tmp_path / "data" / "encoded" / split
        folder.mkdir(parents=True)
        np.save(folder / "ids.npy", encoded.ids)
        np.save(folder / "offsets.npy", encoded.offsets)
    np.save(folder / "documents.npy", np.arange(9, dtype=np.int32))
    np.save(folder / "seen.npy", np.arange(9) < 2)
    return tmp_path


@pytest.fixture
def stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The stage, in this process."""
    monkeypatch.chdir(project)
    return importlib.import_module("stages.baselines").baselines


def test_the_stage_writes_the_same_bytes_in_another_process(project: Path, stage: Callable[[], None]) -> None:
    folder = project / "data" / "evaluation" / "baselines"
    written = []
    command, environment = [sys.executable, "-m", "stages.baselines"], {"PYTHONPATH": str(PROJECT)}
    for run in (stage, lambda: subprocess.run(command, env=environment, check=True)):
        shutil.rmtree(folder, ignore_errors=True)
        run()
        written.append({path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 7
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == set(BASELINES)
    assert all(m["perplexity_low"] <= m["perplexity"] <= m["perplexity_high"] for m in metrics.values())
    with (folder / "bands.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == set(BASELINES)
    for name in BASELINES:
        assert sum(int(row["tokens"]) for row in rows if row["model"] == name) == metrics[name]["tokens"] == 54
        sentences = pq.read_table(folder / "sentences" / f"{name}.parquet").to_pydict()
        assert sum(sentences["nats"]) == pytest.approx(metrics[name]["nats_per_token"] * 54, abs=1e-4)


def test_an_id_outside_the_vocabulary_is_one_clear_line(project: Path, stage: Callable[[], None]) -> None:
    ids = project / "data" / "encoded" / "test" / "ids.npy"
    array = np.load(ids)
    array[2] = 500
    np.save(ids, array)
    with pytest.raises(InputError, match=r"^[^\n]*ids\.npy[^\n]*$"):
        stage()


def test_the_end_of_a_sentence_is_the_likeliest_word_where_all_are_short(encode: Encode) -> None:
    model = Unigram(encode([[], [], [2]]), 5)
    _, ranks = model.score(encode([[]]))
    assert END_ID == 1
    assert ranks.tolist() == [0]
