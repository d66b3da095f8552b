"""The stage `evaluate` with adaptations: what it leaves, of each seed and of all."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.evaluation.results import scores_of
from pipeline.model.folder import load_model, save_model
from pipeline.tracking import pages
from stages.evaluate import evaluate
from tests.projects import Project

ADAPTED = ["cache", "dynamic + temperature", "ensemble + interpolation", "interpolation"]


def evaluated(project: Project, adaptation: list[str], seeds: int) -> dict[str, Any]:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["evaluate"]["adaptation"], params["cells"]["lstm"]["seeds"] = adaptation, seeds
    Path("params.yaml").write_text(yaml.safe_dump(params))
    evaluate()
    return json.loads((project.evaluation / "metrics.json").read_text())


def test_each_adaptation_has_figures_beside_the_static_ones_which_stay(project: Project, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", "lstm"])
    before = evaluated(project, [], 1)
    untouched = {path: path.read_bytes() for path in project.evaluation.rglob("*") if path.is_file()}
    saved = load_model(project.models)
    project.train(seed=2)
    other = load_model(project.models)
    other.train["seed"] = 2
    save_model(other, project.models / "seeds" / "2")
    save_model(saved, project.models)

    found = evaluated(project, ADAPTED, 2)
    adapted = found.pop("adapted")
    assert {key: found[key] for key in before} == before
    assert sorted(adapted) == sorted(ADAPTED)
    table = pq.read_table(project.evaluation / "sentences.parquet")
    for name, figures in adapted.items():
        assert figures["tokens"] == before["tokens"]
        nats = table[f"nats with {name}"].to_numpy()
        assert figures["perplexity"] == pytest.approx(np.exp(nats.sum() / before["tokens"]), abs=1e-6)
    assert adapted["cache"]["seeds"] == 2
    assert adapted["cache"]["cache_window"] in (100, 500, 2000)
    assert {"dynamic_rate", "softmax_temperature"} < adapted["dynamic + temperature"].keys()
    assert adapted["interpolation"]["perplexity"] != before["perplexity"]
    assert 0 < adapted["interpolation"]["interpolation_weight"] < 1
    logged = pages.evaluation_metrics(found | {"adapted": adapted})
    assert logged["test_adapted/ensemble-interpolation"] == adapted["ensemble + interpolation"]["perplexity"]
    assert "seeds" not in adapted["ensemble + interpolation"]
    assert adapted["ensemble + interpolation"]["parameters"] == 2 * before["parameters"]
    of_second = json.loads((project.evaluation / "seeds/2/metrics.json").read_text())["adapted"]
    assert sorted(of_second) == sorted(set(ADAPTED) - {"ensemble + interpolation"})
    assert adapted["cache"]["perplexity_seed_2"] == of_second["cache"]["perplexity"]
    assert scores_of(project.evaluation / "sentences.parquet").bands.keys()  # which no adaptation is taken for

    for path, content in untouched.items():
        if path.name not in ("metrics.json", "sentences.parquet", "seeds.csv"):
            assert path.read_bytes() == content
