"""A cell of several seeds: what is trained, scored and shown, in a tiny project."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.evaluation.results import Row, seed_cells
from pipeline.review.comparison import runs_of_recipe
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import connect
from pipeline.tracking.sync import sync
from pipeline.training.history import EpochRecord
from pipeline.training.trainer import Trainer
from stages.evaluate import evaluate
from stages.train import train
from tests.projects import Project, lock_everything
from tests.system.conftest import Clone

MODEL = Path("data/models/lstm")
SCORES = Path("data/evaluation/lstm")


def with_seeds(seeds: int) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cells"] = {"lstm": {"cell": "lstm", "seeds": seeds} if seeds > 1 else {"cell": "lstm"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fits(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A project whose stages can be called; the seeds that were trained, in order."""
    Path("data/warm_start").mkdir()
    Path("data/warm_start/warm_start.json").write_text("{}\n")
    monkeypatch.setattr(sys, "argv", ["stage", "lstm"])
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    seeds, fit = [], Trainer.fit

    def counted(trainer: Trainer, *arguments: Any) -> list[EpochRecord]:
        seeds.append(trainer._params.seed)
        return fit(trainer, *arguments)

    monkeypatch.setattr(Trainer, "fit", counted)
    return seeds


def test_one_seed_more_trains_that_one_and_one_fewer_takes_it_away(fits: list[int]) -> None:
    shutil.rmtree(MODEL)
    train()
    alone = bytes_below(MODEL)
    assert sorted(alone) == ["config.json", "history.csv", "model.safetensors", "seeds/seeds.csv", "vocabulary.tsv"]
    with_seeds(3)
    shutil.rmtree(MODEL)  # as DVC does before it runs the stage
    train()
    assert fits == [1, 2, 3]
    three = bytes_below(MODEL)
    del alone["seeds/seeds.csv"]
    assert {name: three[name] for name in alone} == alone
    assert {name for name in three if "2" in name} == {f"seeds/2/{name}" for name in alone}
    assert three["seeds/2/model.safetensors"] != three["seeds/3/model.safetensors"] != three["model.safetensors"]
    assert [line.split(b",")[0] for line in three["seeds/seeds.csv"].splitlines()] == [b"seed", b"1", b"2", b"3"]
    with_seeds(2)
    train()  # where DVC deletes nothing
    assert fits == [1, 2, 3]
    two = bytes_below(MODEL)
    assert set(two) == {name for name in three if "3" not in name}
    assert {name for name in two if two[name] != three[name]} == {"seeds/seeds.csv"}


def test_a_kill_loses_no_seed_that_is_finished(fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with_seeds(3)
    fit = Trainer.fit

    def killed_at_the_third(trainer: Trainer, *arguments: Any) -> list[EpochRecord]:
        if trainer._params.seed == 3:
            raise KeyboardInterrupt
        return fit(trainer, *arguments)

    with monkeypatch.context() as dying:
        dying.setattr(Trainer, "fit", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            train()
    shutil.rmtree(MODEL)  # as DVC does
    train()
    assert fits == [1, 2, 3]
    resumed = bytes_below(MODEL)
    train()  # all was there: whoever asks for it again gets it trained again
    assert fits == [1, 2, 3, 1, 2, 3]
    assert bytes_below(MODEL) == resumed


def test_another_recipe_takes_no_model_of_this_one(fits: list[int]) -> None:
    with_seeds(2)
    train()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train"]["learning_rate"] = 0.01
    params["cells"]["lstm"]["seeds"] = 3
    Path("params.yaml").write_text(yaml.safe_dump(params))
    train()
    assert fits == [1, 2, 1, 2, 3]


def test_every_seed_is_scored_and_the_first_as_if_it_were_alone(
    fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train()
    evaluate()
    alone = bytes_below(SCORES)
    assert sorted(name for name in alone if "seeds" in name) == ["seeds/seeds.csv"]
    with_seeds(3)
    train()
    evaluate()
    three = bytes_below(SCORES)
    other = {"metrics.json", "seeds/seeds.csv"}
    assert {name: three[name] for name in alone.keys() - other} == {name: alone[name] for name in alone.keys() - other}
    metrics, first = json.loads(three["metrics.json"]), json.loads(alone["metrics.json"])
    assert {key: metrics[key] for key in first} == first
    assert "seeds" not in first
    each = [first, *(json.loads(three[f"seeds/{seed}/metrics.json"]) for seed in (2, 3))]
    nats = [figures["nats_per_token"] for figures in each]
    mean = sum(nats) / 3
    assert metrics["seeds"] == 3
    assert metrics["seed_nats_mean"] == pytest.approx(mean, abs=1e-6)
    assert metrics["seed_nats_sd"] == pytest.approx((sum((x - mean) ** 2 for x in nats) / 2) ** 0.5, abs=2e-6)
    perplexities = [metrics[f"perplexity_seed_{seed}"] for seed in (1, 2, 3)]
    assert perplexities == [figures["perplexity"] for figures in each]
    assert metrics["seed_perplexity_mean"] == pytest.approx(sum(perplexities) / 3, abs=1e-6)
    assert three["seeds/2/sentences.parquet"] != three["sentences.parquet"]
    shown = seed_cells([Row("lstm", metrics, 5.0, 3)])[1]
    assert shown[:2] == ["lstm", "3"]
    assert shown[-1] == ", ".join(f"{perplexity:.2f}" for perplexity in perplexities)
    with_seeds(1)
    train()
    with monkeypatch.context() as failing:
        failing.setattr("stages.evaluate.summarise", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate()
    assert bytes_below(SCORES) == three  # until there are new scores
    evaluate()
    assert bytes_below(SCORES) == alone


def test_each_seed_has_a_run_in_the_group_of_its_recipe_and_the_first_is_registered(
    fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_seeds(2)
    train()
    evaluate()
    monkeypatch.delenv("RNNLM_TRACKING")
    with_seeds(3)
    train()  # MLflow sees the third alone
    lock_everything()
    store = connect()
    done = [line.split(" (")[0] for line in sync(store)]
    assert done == ["lstm: run made", "lstm: run made", "lstm: up to date"]
    evaluate()
    lock_everything()
    assert [line.split(" (")[0] for line in sync(store)] == ["lstm: up to date"] * 3
    runs = {run.data.tags["folder"]: store.run(run.info.run_id) for run in store.runs()}
    assert sorted(runs) == ["lstm", "lstm/seeds/2", "lstm/seeds/3"]
    assert len({run.data.tags["seed_group"] for run in runs.values()}) == 1
    for folder, run in runs.items():
        seed = run.data.params["train.seed"]
        assert run.info.run_name == f"lstm, 4 units, 3 epochs, installed-docs, seed {seed}"
        figures = json.loads((Path("data/evaluation") / folder / "metrics.json").read_text())
        assert run.data.metrics["test/perplexity"] == figures["perplexity"]
        provenance = read_provenance(store, run.info.run_id)
        assert provenance is not None
        outs = provenance.stages["train"].outs
        names = ["config.json", "history.csv", "model.safetensors", "vocabulary.tsv"]
        assert sorted(outs) == [f"data/models/{folder}/{name}" for name in names]
    assert [version.run_id for version in store.versions()] == [runs["lstm"].info.run_id]
    assert runs_of_recipe(store, runs["lstm/seeds/2"])[0].info.run_id == runs["lstm"].info.run_id
    assert len(runs_of_recipe(store, runs["lstm"])) == 3


@pytest.mark.slow
def test_dvc_deletes_the_outputs_and_still_only_the_new_seed_is_trained(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "clone", tracking=True)
    before = clone.digests()
    clone.change(cells__gru__seeds=2)
    printed = clone.dvc("repro", "train@gru", "evaluate@gru")
    assert "gru, seed 1: trained before" in printed
    assert "gru, seed 2: trained before" not in printed
    two = clone.digests()
    assert "data/models/gru/seeds/2/model.safetensors" in two
    changed = {name for name, digest in before.items() if two[name] != digest}
    assert changed == {
        "data/models/gru/seeds/seeds.csv", "data/evaluation/gru/metrics.json", "data/evaluation/gru/seeds/seeds.csv"
    }  # fmt: skip
    clone.change(cells__gru__seeds=1)
    clone.repro("train@gru", "evaluate@gru")
    assert clone.digests() == before
    second = next(run for run in json.loads(clone.call("runs", "--json")) if run["tags"]["folder"] == "gru/seeds/2")
    assert clone.rnnlm("reproduce", second["run_id"]).startswith("identical")
    clone.change(cells__gru__seeds=2)
    assert clone.repro("train@gru", "evaluate@gru") == []  # of the run cache
    assert clone.digests() == two
