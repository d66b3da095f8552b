"""Two models on the same sentences, and the commands that compare and list runs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.evaluation.paired import paired_bootstrap
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.params import load_params
from pipeline.review.comparison import compare_models, compare_recipes
from pipeline.review.listing import differing, list_runs
from pipeline.review.names import find, model_of_run
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import TOKENS
from pipeline.text.tokens import read_tokens
from pipeline.tracking.store import Store, connect
from tests.projects import Project
from tests.review.candidates import TYPES, as_before, candidate, lock, record, rnnlm, write_corpus


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "pair"


@pytest.fixture
def pair(project: Project, kept: Path) -> tuple[Store, str, str]:
    """Two runs whose models know all word types, and a quarter of them."""

    def make() -> None:
        write_corpus()
        candidate(project)
        candidate(project, words=TYPES // 4)

    as_before(project, kept, make)
    store = connect()
    quarter, whole = list_runs(store, store.runs())
    return store, whole.run_id, quarter.run_id


def test_a_quarter_of_the_vocabulary_does_not_win_and_the_models_come_from_mlflow(pair: tuple[Store, str, str]) -> None:
    store, whole, quarter = (pair[0], *(find(pair[0], run) for run in pair[1:]))
    shutil.rmtree("data/models")
    shutil.rmtree("data/encoded")
    Path("data/vocabulary.tsv").unlink()
    raw = []
    for run in (whole, quarter):
        loaded = Predictor(model_of_run(store, run))
        split = loaded.encode(words for rows in read_tokens(TOKENS, "test") for words in rows.to_pylist())
        raw.append(score_split(loaded, split, "score").sentences)
    assert paired_bootstrap(raw[0].nats, raw[1].nats, raw[0].tokens, None, 100, 1).better == "B"
    compared = compare_models(store, whole, quarter, load_params())
    assert compared.result.better == "A"
    assert (compared.unknown_types_a, compared.unknown_types_b) == (0, TYPES - TYPES // 4)
    assert compared.result.sentences == 200
    assert compared.result.tokens == 200 * 9
    assert (compared.result.documents, compared.result.effective_number) == (100, pytest.approx(100))
    assert compared.result.perplexity_b == pytest.approx(
        np.exp((raw[1].nats + raw[1].unknown * np.log(30)).sum() / 1800)
    )
    assert compared.remarks == ()
    assert compare_models(store, whole, whole, load_params()).result.better is None


def test_recipes_are_compared_where_both_have_several_seeds(pair: tuple[Store, str, str]) -> None:
    store, whole, quarter = (pair[0], *(find(pair[0], run) for run in pair[1:]))
    models = compare_models(store, whole, quarter, load_params())
    recipes = compare_recipes(store, [whole] * 3, [quarter] * 4, load_params())
    assert (models.result.compares, recipes.result.compares) == ("models", "recipes")
    assert (recipes.result.seeds_a, recipes.result.seeds_b) == (3, 4)
    assert recipes.result.better == "A"
    assert compare_recipes(store, [whole] * 2, [quarter] * 4, load_params()).result.better is None  # two tell nothing
    assert recipes.result.difference == pytest.approx(models.result.difference)
    twins = [with_one_seed_more(store, run, f"recipe {number}") for number, run in enumerate((whole, quarter))]
    for options, expected in (((), "recipes"), (("--models",), "models")):
        done = rnnlm("compare", whole.info.run_id, twins[1], "--json", *options)
        assert json.loads(done.stdout)["test"]["compares"] == expected
    done = rnnlm("compare", whole.info.run_id, twins[0], "--json")  # two seeds of one recipe
    assert json.loads(done.stdout)["test"]["compares"] == "models"


def with_one_seed_more(store: Store, run: Any, group: str) -> str:
    """What another seed of the run's recipe would have left in MLflow, but for its bytes; returns its run's id."""
    store.tag(run.info.run_id, seed_group=group)
    twin = store.client.create_run(store.experiment_id, tags=run.data.tags | {"seed_group": group}).info.run_id
    store.client.log_param(twin, "train.seed", "2")
    store.client.log_outputs(twin, run.outputs.model_outputs)
    store.client.set_terminated(twin)
    return twin


def test_compare_says_what_differs_and_which_is_better(pair: tuple[Store, str, str]) -> None:
    store, whole, quarter = pair
    record(store, whole)
    record(store, quarter, code="9", data="8", path="https://me:secret@example.org/text.csv?token=secret")
    done = rnnlm("compare", whole[:12], quarter, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["a"]["run_id"] == whole
    assert found["code"] == {"pipeline/text/tokenizer.py": ["1", "9"]}
    assert found["data"]["data/vocabulary.tsv"] == ["5", "8"]
    assert "data/raw/documents.parquet" not in found["data"]
    assert found["parameters"]["vocabulary.size"] == ["43", "13"]
    assert found["parameters"]["download.path"] == ["corpus", "https://example.org/text.csv"]
    assert found["metrics"]["test/perplexity"] == [5.0, 5.0]
    assert found["test"]["better"] == "A"
    assert found["test"]["sentences"] == 200
    shown = rnnlm("compare", whole, quarter).stdout
    assert "secret" not in shown
    for text in ("200 test sentences", "1,800 tokens", "A is better", "vocabulary.size", "5 (4 to 6)", whole[:8]):
        assert text in shown


def test_models_that_read_other_tokens_are_refused_but_their_differences_are_shown(project: Project) -> None:
    write_corpus()
    candidate(project)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["tokenize"]["lowercase"] = False
    Path("params.yaml").write_text(yaml.safe_dump(params))
    candidate(project, words=20)
    done = rnnlm("compare", "v1", "v2", "--json")
    assert isinstance(done.exception, InputError)
    assert "tokenize.lowercase is true for the first, false for the second" in str(done.exception)
    assert json.loads(done.stdout)["test"] is None
    # And where the sentences are not theirs.
    with pytest.raises(InputError, match=r"tokenize\.lowercase true, params\.yaml says false"):
        compare_models(connect(), find(connect(), "v1"), find(connect(), "v1"), load_params())


def test_tokens_that_dvc_does_not_know_are_refused(pair: tuple[Store, str, str], project: Project) -> None:
    store, whole, quarter = pair
    write_corpus(sentences=50)
    with pytest.raises(InputError, match="dvc repro tokenize"):
        compare_models(store, find(store, whole), find(store, quarter), load_params())
    lock(project)
    assert compare_models(store, find(store, whole), find(store, quarter), load_params()).result.sentences == 50


def test_a_run_without_its_model_is_refused(pair: tuple[Store, str, str]) -> None:
    store, whole, quarter = pair
    broken_off = store.client.create_run(store.experiment_id).info.run_id
    with pytest.raises(InputError, match="its training did not finish"):
        compare_models(store, find(store, whole), find(store, broken_off), load_params())
    (weights,) = Path("mlruns/models").glob(f"{_model(store, quarter)}/artifacts/artifacts/*/model.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="not those that were logged"):
        compare_models(store, find(store, whole), find(store, quarter), load_params())
    weights.unlink()
    with pytest.raises(InputError, match="does not have the files"):
        compare_models(store, find(store, whole), find(store, quarter), load_params())


def _model(store: Store, run: str) -> str:
    outputs = find(store, run).outputs
    assert outputs is not None
    return outputs.model_outputs[0].model_id


def test_the_list_of_runs(pair: tuple[Store, str, str]) -> None:
    store, whole, quarter = pair
    store.client.set_tag(whole, "mlflow.source.git.commit", "0123456789abcdef")
    store.client.set_tag(whole, "git_dirty", "true")
    failed = store.client.create_run(store.experiment_id, run_name="[red]mine[/red]").info.run_id
    store.client.set_terminated(failed, "FAILED")
    store.client.log_metric(failed, "valid/loss", float("nan"))
    store.client.set_registered_model_alias("rnnlm", "champion", "1")
    listed = json.loads(rnnlm("runs", "--json").stdout)
    assert [run["run_id"] for run in listed] == [failed, quarter, whole]
    assert [run["status"] for run in listed] == ["FAILED", "FINISHED", "FINISHED"]
    assert listed[0]["metrics"] == {"valid/loss": None}
    assert [(run["version"], run["aliases"]) for run in listed] == [
        (None, []),
        ("2", ["challenger"]),
        ("1", ["champion"]),
    ]
    assert listed[2]["metrics"]["test_interval/perplexity_low"] == 4.0
    assert listed[2]["tags"]["git_dirty"] == "true"
    assert listed[2]["start_time"].endswith("+00:00")
    assert differing(list_runs(store, store.runs())) == ["vocabulary.size", "model.parameters"]
    assert len(json.loads(rnnlm("runs", "--limit", "2", "--json").stdout)) == 2

    table = rnnlm("runs", "--wide").stdout
    (row,) = [line for line in table.splitlines() if whole[:8] in line]
    name = "lstm, 4 units, 1 epoch, installed-docs, seed 1"
    for text in (name, "4 to 6", "01234567+", "v1, champion", "vocabulary.size 43"):
        assert text in row
    assert "[red]mine[/red]" in table
    assert "…" not in table

    (row,) = [line for line in rnnlm("runs").stdout.splitlines() if whole[:8] in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][3:] == ["5", "v1, champion"]
    shown = rnnlm("show", "v1").stdout
    for text in (f"run: {whole}", "version: v1, champion", "code: 01234567+", "git_dirty: true"):
        assert text in shown.splitlines()
    assert re.search(r"│ test/perplexity +│ 5 \(4 to 6\) +│", shown)
    assert re.search(r"│ train\.epochs +│ 3 +│", shown)
    assert json.loads(rnnlm("show", whole[:8], "--json").stdout) == listed[2]
