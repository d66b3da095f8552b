"""`make headline`: several seeds of every cell beside the results that are there, and the record of it."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.conftest import SOAK
from tests.system.conftest import Clone

SEEDS = 4 if SOAK else 2
OTHERS = [str(seed) for seed in range(2, SEEDS + 1)]


@pytest.mark.slow
def test_the_record_has_every_seed_and_the_checkout_stays_as_it_was(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "clone")
    cells = {"rnn": {"cell": "rnn", "bias": False}, "gru": {"cell": "gru", "embedding_dim": 8}}
    clone.change(cells=cells, download__path=str(clone.folder / "corpus/comments.csv"))
    clone.git("add", "-A")
    clone.git("commit", "-qm", "two cells")
    before = clone.digests()
    clone.run(sys.executable, "-m", "tools.headline", "--seeds", str(SEEDS))
    assert clone.digests() == before
    changed = {line[3:] for line in clone.git("status", "--porcelain", "-uall").splitlines()}
    assert changed == {
        f"recipes/default/{name}" for name in ("README.md", "metrics.json", "params.yaml", "record.json")
    }
    recipes = clone.folder / "recipes/default"
    metrics = json.loads((recipes / "metrics.json").read_text())
    record = json.loads((recipes / "record.json").read_text())
    assert record["commit"] == clone.git("rev-parse", "HEAD").strip()
    assert record["command"] == f"make headline SEEDS={SEEDS}"
    code = "import stages, torch; from pipeline.runtime.exactness import why_not_exact; print(why_not_exact() or 'yes')"
    assert record["machine"]["machine.exact"] == clone.run(sys.executable, "-c", code).strip()
    for name in cells:
        assert metrics[name]["seeds"] == SEEDS
        assert record["training_minutes"][name] >= 0
        models = clone.folder / ".rnnlm/headline/data/models" / name
        for seed, folder in (("1", models), *((seed, models / "seeds" / seed) for seed in OTHERS)):
            weights = (folder / "model.safetensors").read_bytes()
            assert record["weights_sha256"][name][seed] == sha256(weights).hexdigest()
        first = sha256((clone.folder / "data/models" / name / "model.safetensors").read_bytes()).hexdigest()
        assert record["weights_sha256"][name]["1"] == first
        shown = f"{metrics[name]['seed_perplexity_mean']:.2f}"
        assert shown in (recipes / "README.md").read_text()
    assert metrics["baselines"]["fivegram"]["perplexity"] > 1
    assert len(record["recipes"]) == 1
    if SEEDS < 4:
        return
    # The benchmark that asks whether equal recipes are told apart, which would train seeds in the same way.
    evaluated, scores = clone.folder / ".rnnlm/headline/data/evaluation/gru", tmp_path / "scores"
    scores.mkdir()
    for seed, folder in (("1", evaluated), *((seed, evaluated / "seeds" / seed) for seed in OTHERS)):
        (scores / seed).symlink_to(folder)
    said = clone.run(sys.executable, "-m", "benchmarks.seeds", "--scores", str(scores)).splitlines()
    assert [line.partition(":")[0] for line in said[-3:]] == [
        "perplexities of 4 seeds", "recipes of 2 seeds each", "single models"
    ]  # fmt: skip
    assert " of 3 cannot be told apart" in said[-2]
    assert clone.digests() == before
