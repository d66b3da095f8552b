"""`rnnlm recipe`: killed, gone on with, and all of it beside the project's own results."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from pipeline.training.history import read_history
from tests.forking import BIN, LOADED
from tests.system.conftest import Clone

RECIPE = "train:\n  epochs: 15\n  patience: 15\ncells:\n  small: {cell: gru, embedding_dim: 8}\n"


def with_recipe(clone: Clone, text: str = RECIPE) -> Clone:
    """A clone with a recipe `tiny`."""
    (clone.folder / "recipes/tiny").mkdir()
    (clone.folder / "recipes/tiny/params.yaml").write_text(text)
    return clone


@pytest.mark.slow
def test_a_killed_recipe_goes_on_and_the_checkout_stays_as_it_was(plain: Clone, tmp_path: Path) -> None:
    clone = with_recipe(plain.copy(tmp_path / "clone", tracking=True))
    before, params = clone.digests(), (clone.folder / "params.yaml").read_bytes()
    status = clone.git("status", "--porcelain", "-uall")
    tree = clone.folder / ".rnnlm/recipes/tiny"
    command = ["rnnlm", "recipe", "tiny", "-S", "train.seed=2"]
    loaded = [*LOADED, str(BIN / command[0]), *command[1:]]  # its stages are processes that can be killed all the same
    environment = clone.environment | {"RNNLM_CHECKPOINT_SECONDS": "0.1"}
    with subprocess.Popen(
        loaded, cwd=clone.folder, env=environment, start_new_session=True, stderr=subprocess.PIPE
    ) as killed:
        while killed.poll() is None and not list(tree.glob(".rnnlm/checkpoints/*/*/*.safetensors")):
            time.sleep(0.05)
        everyone = [psutil.Process(killed.pid), *psutil.Process(killed.pid).children(recursive=True)]
        for process in everyone:  # DVC and its stages have groups of their own
            with suppress(psutil.NoSuchProcess):
                process.kill()
    psutil.wait_procs(everyone)  # until then DVC takes them for running
    assert killed.returncode == -signal.SIGKILL
    done = clone.done(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert "resuming from a checkpoint at step" in done.stderr
    told = json.loads(done.stdout)
    assert (told["recipe"], told["commit"]) == ("tiny", clone.git("rev-parse", "HEAD").strip())
    assert list(told["models"]) == ["small"]
    assert told["figures"]["small"]["epochs"] == 15
    assert told["figures"]["small"]["perplexity_low"] < told["figures"]["small"]["perplexity"]
    assert (clone.folder / told["report"] / "index.html").exists()

    assert (clone.digests(), (clone.folder / "params.yaml").read_bytes()) == (before, params)
    assert clone.git("status", "--porcelain", "-uall") == status
    written = clone.rnnlm("generate", "--count", "2", "--model", told["models"]["small"])
    assert len(written.splitlines()) == 2
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("recipe tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["train.seed"] == "2"
    assert run.data.metrics["test/perplexity"] == pytest.approx(told["figures"]["small"]["perplexity"])
    assert client.search_model_versions() == []
    assert client.get_experiment_by_name("rnnlm") is None


@pytest.mark.soak
def test_the_benchmark_records_a_recipe_and_says_so_in_its_readme(plain: Clone, tmp_path: Path) -> None:
    clone = with_recipe(plain.copy(tmp_path / "clone", tracking=True), RECIPE.replace("15", "1"))
    clone.git("add", "recipes")
    clone.git("commit", "-qm", "A recipe")
    commit, tree = clone.git("rev-parse", "HEAD").strip(), clone.folder / ".rnnlm/recipes/tiny"
    (clone.folder / "recipes/tiny/README.md").write_text("an old line\n\nAbout it.\n")
    printed = clone.run(sys.executable, "-m", "benchmarks.recipes", "tiny", "--record")
    record = json.loads((clone.folder / "recipes/tiny/record.json").read_text())
    (proved,) = record["runs"]
    assert (proved["seed"], proved["commit"], record["precision"]) == (1, commit, "exact")
    weights = (tree / "data/models/small/model.safetensors").read_bytes()
    metrics = json.loads((tree / "data/evaluation/small/metrics.json").read_text())
    assert proved["models"]["small"]["weights_sha256"] == sha256(weights).hexdigest()
    assert proved["models"]["small"]["test"] == metrics["perplexity"]
    (epoch,) = read_history(tree / "data/models/small/history.csv")
    assert proved["models"]["small"]["curve"] == [epoch.valid_perplexity]
    assert f"\n| 1 | {proved['seconds'] / 60:.2f} | " in printed
    timing = json.loads((tree / ".rnnlm/timings/small.json").read_text())
    assert timing["seconds"] < proved["seconds"]  # of the whole command
    assert (clone.folder / "recipes/tiny/README.md").read_text().startswith("Default corpus: test perplexity ")
    assert (
        f"| tiny | Default corpus: test perplexity {metrics['perplexity']:.1f} ("
        in (clone.folder / "docs/records.md").read_text()
    )
