"""A store that commit 726b98c wrote, and the clone around it, under the commands of today.

What that commit left is made from what the same models leave today: a flat config.json without vocabulary beside it,
logged models of three artifacts, tags with the digest of two files, records and a dvc.lock that name modules.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import load_params
from pipeline.provenance.dvc import dvc_digest
from pipeline.review import gates, reproduce, unseen
from pipeline.review.promotion import FORMER_CHAMPIONS
from pipeline.runtime.paths import TOKENS
from pipeline.tracking.logged_model import FILES_DIGEST
from pipeline.tracking.store import MODEL, Store, connect
from tests.projects import Project, as_commit_726b98c
from tests.review.candidates import candidate, write_corpus

MODULE = Path("pipeline/training/trainer.py")


def rnnlm(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def trained(project: Project, power: float) -> str:
    """A model as that commit left it in data/, dvc.lock and MLflow; returns its run's id."""
    candidate(project, power, valid=6 - power)
    store = connect()
    run = store.run(store.runs(1)[0].info.run_id)
    (output,) = run.outputs.model_outputs if run.outputs else []
    logged = Path("mlruns/models") / output.model_id / "artifacts"
    content = yaml.safe_load((logged / "MLmodel").read_text())
    kept = content["flavors"]["python_function"]["artifacts"]
    del kept["unknown_types"]  # which came later
    digest = as_commit_726b98c(logged / kept["model"]["path"], logged / "artifacts/vocabulary.tsv")
    for name in ("vocabulary.tsv", "text.json"):
        kept[name.partition(".")[0]] = {"path": f"artifacts/{name}", "uri": f"/elsewhere/{name}"}
    (logged / "MLmodel").write_text(yaml.safe_dump(content))
    assert as_commit_726b98c(project.models) == digest
    store.client.delete_logged_model_tag(logged.parent.name, FILES_DIGEST)
    store.tag(run.info.run_id, model_digest=digest)
    store.tag_version(str(store.versions()[-1].version), model_digest=digest)
    lock_as_then(project)
    store.client.log_text(run.info.run_id, record().decode(), "provenance/provenance.json")
    return run.info.run_id


def lock_as_then(project: Project) -> None:
    content = yaml.safe_load(Path("dvc.lock").read_text())
    train = content["stages"]["train@lstm"]
    paths = [out["path"] for out in train["outs"] if Path(out["path"]).exists()]
    assert str(project.models / "vocabulary.tsv") not in paths
    for key, files in (("outs", paths), ("deps", [str(MODULE), "data/vocabulary.tsv"])):
        train[key] = [{"path": path, "md5": dvc_digest(Path(path))} for path in files]
    Path("dvc.lock").write_text(yaml.safe_dump(content))


def record() -> bytes:
    """A provenance.json."""
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    stages = {
        name.partition("@")[0]: {
            **{key: {item["path"]: item["md5"] for item in entry.get(key, [])} for key in ("deps", "outs")},
            "params": entry["params"]["params.yaml"],
        }
        for name, entry in locked.items()
        if name in ("tokenize", "train@lstm", "evaluate@lstm")
    }
    return json.dumps({"commit": git("rev-parse", "HEAD"), "left_out": {}, "stages": stages}).encode()


@pytest.fixture
def upgraded(project: Project) -> tuple[Store, list[str]]:
    """Two versions, the second and better one champion; what lies in data/ is the second."""
    MODULE.parent.mkdir(parents=True)
    MODULE.write_text("EPOCHS = 1\n")
    write_corpus()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cells"] = {"lstm": {"cell": "lstm", "output_bias": True}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    git("init", "-q")
    git("add", "params.yaml", "dvc.yaml", "constraints.txt", str(MODULE))
    git("commit", "-qm", "as it was")
    ids = [trained(project, power) for power in (0.3, 1.0)]
    store = connect()
    store.set_alias("champion", "2")
    store.client.set_registered_model_tag(MODEL, FORMER_CHAMPIONS, "1")
    return store, ids


@pytest.mark.slow
def test_runs_comparison_sync_and_the_way_back(upgraded: tuple[Store, list[str]], project: Project) -> None:
    store, (first, second) = upgraded
    rows = {row["run_id"]: (row["version"], row["aliases"]) for row in json.loads(rnnlm("runs", "--json").stdout)}
    assert rows == {first: ("1", []), second: ("2", ["challenger", "champion"])}
    compared = json.loads(rnnlm("compare", first, "champion", "--json").stdout)
    assert compared["test"]["better"] == "B"
    assert compared["code"] == {}
    # No second run or version of what is there.
    assert rnnlm("sync").stdout.startswith("lstm: up to date")
    assert (len(store.runs()), len(store.versions())) == (2, 2)
    (line,) = rnnlm("promote").stdout.splitlines()
    assert line == "v2: unchanged. It is the champion already."
    assert rnnlm("rollback").stdout == "v1 is champion again, in place of v2\n"
    generated = rnnlm("generate", "--model", "models:/rnnlm@champion", "--count", "2")
    assert len(generated.stdout.splitlines()) == 2
    assert str(rnnlm("generate").exception).endswith("kept the vocabulary elsewhere; run `dvc repro`")

    # The same weights from today's pipeline: a version of their own, which is no better.
    store.set_alias("champion", "2")
    candidate(project, 1.0, valid=5.0)
    assert rnnlm("sync").stdout.startswith("lstm: up to date")
    assert (len(store.runs()), len(store.versions()), store.aliases()["challenger"]) == (3, 3, "3")
    test = json.loads(rnnlm("compare", "v2", "v3", "--json").stdout)["test"]
    assert (test["better"], test["perplexity_a"]) == (None, test["perplexity_b"])
    assert rnnlm("promote").stdout.startswith("v3: kept.")


def test_a_run_is_made_again_from_the_modules_that_it_names(
    upgraded: tuple[Store, list[str]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: (project.folder / name).read_bytes() for name in outputs()}

    def repro(tree: Path, targets: list[str], *_: object) -> None:
        assert targets == ["train@lstm", "evaluate@lstm"]
        assert (tree / MODULE).read_text() == "EPOCHS = 1\n"
        for name, content in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)

    monkeypatch.setattr(reproduce, "repro_afresh", repro)
    monkeypatch.setattr(reproduce, "restore", lambda path, digest, target: restored(project, path, digest, target))
    MODULE.write_text("EPOCHS = 2\n")  # what lies here now is not asked
    done = rnnlm("reproduce", "champion")
    assert (done.exit_code, done.stdout.partition(":")[0]) == (0, "identical")
    files["data/models/lstm/model.safetensors"] += b" "
    done = rnnlm("reproduce", "champion")
    assert done.exit_code == 11  # whose perplexity is what it was, but that proves nothing
    assert "data/models/lstm/model.safetensors has other bytes" in done.stdout


@pytest.mark.slow
def test_a_champion_of_then_is_judged_by_the_gates_of_today(
    upgraded: tuple[Store, list[str]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own test sentences, those that somebody was trained on, the n-grams and the count of judgements."""
    store, _ = upgraded
    texts = {dvc_digest(TOKENS): TOKENS.read_bytes()}
    for module in (gates, unseen):
        monkeypatch.setattr(module, "restore", lambda _, digest, path: path.write_bytes(texts[digest]))
    write_corpus(sentences=450)  # a quarter of the old test sentences are in its training split
    texts[dvc_digest(TOKENS)] = TOKENS.read_bytes()
    candidate(project, 1.0, valid=5.0)
    params = load_params()
    found = gates.candidate(params)
    verdict = gates.judge(store, found, gates.registered(store, found), 5000.0, params)
    assert [(gate.name, gate.made) for gate in verdict.gates if gate.name not in ("perplexity", "speed")] == [
        ("better", True),
        ("n-gram", True),
        ("old sentences", True),
        ("unknown words", True),
    ]
    better, old = (gate.reason for gate in verdict.gates if gate.name in ("better", "old sentences"))
    assert "50 of 200 test sentences were in the training split of one of them and are left out." in old
    assert "judgement 1 on this test split" in better
    gates.settle(store, verdict, params)
    assert gates.judged_before(store, verdict.challenger, params)


def outputs() -> list[str]:
    return [out["path"] for name in ("train@lstm", "evaluate@lstm")
            for out in yaml.safe_load(Path("dvc.lock").read_text())["stages"][name]["outs"]]  # fmt: skip


def restored(project: Project, path: str, digest: str, target: Path) -> None:
    assert dvc_digest(project.folder / path) == digest
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((project.folder / path).read_bytes())
