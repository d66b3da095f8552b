"""What `rnnlm table` says: whose figures, which are out of date, what is not there yet."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.evaluation.results import BASELINES
from pipeline.params import load_params
from pipeline.review.overview import Overview, overview
from pipeline.runtime.errors import InputError
from pipeline.runtime.hashes import sha256
from tests.projects import Project, lock_everything


@pytest.fixture
def results(project: Project) -> Project:
    """A model and the baselines, with the lock of all of it, but that no stage before it has outputs."""
    figures = json.loads((project.evaluation / "metrics.json").read_text())
    folder = project.evaluation.parent / "baselines"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(BASELINES, figures)))
    lock_everything()
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    params = yaml.safe_load(Path("params.yaml").read_text())
    for stage, key in (("download", "download"), ("vocabulary", "vocabulary"), ("baselines", "evaluate")):
        lock["stages"][stage] = {"cmd": "it", "params": {"params.yaml": {key: params[key]}}}
    lock["stages"]["encode"] = {"cmd": "it"}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    return project


def change(section: str, **values: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(content))


def shown(wide: bool = False) -> Overview:
    return overview(load_params(), wide)


def names(found: Overview) -> list[str]:
    return [row[0] for row in found.models[1:]]


@pytest.mark.usefixtures("results")
def test_corpus_and_commit_stand_above_a_few_columns() -> None:
    found = shown()
    assert found.about == ["installed-docs, results of no commit"]
    header, *rows = found.models
    assert header == ["model", "test perplexity", "95% interval", "validation perplexity", "parameters", "training"]
    assert names(found) == ["unigram", "trigram", "5-gram", "lstm"]
    assert rows[-1][1:3] == ["6.0", "5.0 to 7.0"]
    assert found.remarks[:2] == ["Best on validation: lstm.", "95% interval over 3 documents (effective number 2.5)."]
    assert "known words only" in shown(wide=True).models[0]


@pytest.mark.usefixtures("results")
def test_training_took_what_it_took_to_make_these_weights_and_no_others() -> None:
    path = Path(".rnnlm/timings/lstm.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = {"these": sha256(Path("data/models/lstm/model.safetensors")), "others": "0" * 64}
    for weights, training in (("these", "61 s"), ("others", "-")):
        path.write_text(json.dumps({"seconds": 61.2, "model.safetensors": digests[weights]}))
        assert shown().models[-1][-1] == training
    path.write_text('{"seconds": 61.2}')  # of an earlier version
    assert shown().models[-1][-1] == "-"


def test_of_a_warm_start_it_says_where_to_look(results: Project) -> None:
    assert "began with" not in " ".join(shown().remarks)
    shutil.copytree(results.models, "data/warm_start")
    assert "Training of lstm began with another model's weights; `rnnlm show NAME` counts" in shown().remarks[-2]


@pytest.mark.usefixtures("results")
def test_the_corpus_is_that_of_the_figures_and_what_changed_since_is_named() -> None:
    change("download", source="files", path="corpus/mine.csv")
    found = shown()
    assert found.about[0].startswith("installed-docs, ")
    assert found.about[1] == (
        "out of date, as these changed: download.path, download.source; `dvc repro` runs what is needed"
    )
    assert names(found) == [f"{name} (out of date)" for name in ("unigram", "trigram", "5-gram", "lstm")]


@pytest.mark.usefixtures("results")
def test_only_what_depends_on_a_change_is_marked() -> None:
    change("train", epochs=9)
    assert names(shown()) == ["unigram", "trigram", "5-gram", "lstm (out of date)"]


def test_figures_of_another_run_than_the_lock_are_marked(results: Project) -> None:
    results.evaluate(perplexity=8.0)
    found = shown()
    assert names(found)[-1] == "lstm (out of date)"
    assert "data/evaluation/lstm/metrics.json" in found.about[1]


@pytest.mark.usefixtures("results")
def test_a_model_that_is_not_trained_leaves_the_others_their_rows() -> None:
    change("cells", wide={"cell": "lstm"}, half={"cell": "rnn"})
    folder = Path("data/models/half")
    folder.mkdir()
    (folder / "history.csv").write_bytes(Path("data/models/lstm/history.csv").read_bytes())
    found = shown()
    rows = {row[0]: row[1:] for row in found.models}
    assert rows["wide"] == ["not trained", "-", "-", "-", "-"]
    assert rows["half"] == ["not evaluated", "-", "-", "-", "-"]
    assert rows["lstm"][0] == "6.0"
    told = {row["model"]: row for row in found.as_json()["models"]}
    shared = {key: told["lstm"][key] for key in ("state", "best", "perplexity", "perplexity_low", "perplexity_high")}
    assert list(shared.values()) == ["up to date", True, 6.0, 5.0, 7.0]
    assert told["wide"] == dict.fromkeys(told["lstm"]) | {"model": "wide", "state": "not trained", "best": False}
    assert (told["half"]["state"], told["unigram"]["valid_perplexity"]) == ("not evaluated", None)


def test_what_several_seeds_gave_is_told_as_numbers(results: Project) -> None:
    path = results.evaluation / "metrics.json"
    seeds = {"seeds": 2, "seed_perplexity_mean": 6.5, "seed_perplexity_sd": 0.5}
    each = {"perplexity_seed_1": 6.0, "perplexity_seed_2": 7.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | seeds | each))
    ends = dict.fromkeys(("seed_perplexity_mean_low", "seed_perplexity_mean_high"))
    assert shown().as_json()["seeds"] == [{"model": "lstm", **seeds, **ends, "each": {"1": 6.0, "2": 7.0}}]


def test_adapted_models_stand_below_theirs(results: Project) -> None:
    path = results.evaluation / "metrics.json"
    figures = json.loads(path.read_text())
    adapted = figures | {"perplexity": 5.5, "cache_window": 500, "cache_theta": 0.5, "cache_weight": 0.15}
    path.write_text(json.dumps(figures | {"adapted": {"cache": adapted | {"valid_perplexity": 6.25}}}))
    change("cells", wide={"cell": "lstm"})
    found = shown()
    assert [row[:3] for row in found.models[-3:]] == [
        ["lstm (out of date)", "6.0", "5.0 to 7.0"],
        ["lstm + cache (out of date)", "5.5", "5.0 to 7.0"],
        ["wide", "not trained", "-"],
    ]
    assert found.remarks[-1] == "lstm + cache: window 500, theta 0.5, cache 0.15, perplexity there 6.2."
    told = {row["model"]: row for row in found.as_json()["models"]}
    assert (told["lstm + cache"]["perplexity"], told["lstm + cache"]["best"]) == (5.5, False)
    del adapted["accuracy_top5"]
    path.write_text(json.dumps(figures | {"adapted": {"cache": adapted}}))
    with pytest.raises(InputError, match=r"metrics\.json holds no number accuracy_top5"):
        shown()


def test_before_the_first_run_every_model_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import PROJECT

    monkeypatch.chdir(tmp_path)
    params = load_params(PROJECT / "params.yaml")
    assert overview(params, wide=False).models == [
        ["model", "state"],
        ["rnn", "not trained"],
        ["lstm", "not trained"],
        ["gru", "not trained"],
    ]
