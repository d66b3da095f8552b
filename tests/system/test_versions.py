"""Two versions trained in one clone, and what another clone can say of them and do with them."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import requests
from mlflow import MlflowClient

from benchmarks.serving import ask, champion_server
from pipeline.review import cleaning
from tests.system.conftest import Clone, forget_models, make_clone

pytestmark = pytest.mark.slow


class Versions(NamedTuple):
    """The clone that trained, its commits, and its runs in MLflow, the older first."""

    clone: Clone
    commits: list[str]
    runs: list[str]
    data: list[dict[str, str]]  # what lay in data/ then

    def elsewhere(self, folder: Path) -> Clone:
        """Another clone of the same repository, which reads the same MLflow."""
        self.clone.git("clone", "-q", str(self.clone.folder), str(folder))
        shutil.copytree(self.clone.folder / "corpus", folder / "corpus", dirs_exist_ok=True)  # git ignores it
        return Clone(folder, store=f"sqlite:///{self.clone.folder}/mlflow.db")


@pytest.fixture(scope="module")
def versions(plain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Two commits, one epoch and then two, as `plain` has, both pushed to a DVC remote in a folder."""
    folder = tmp_path_factory.mktemp("versions")
    clone = plain.copy(folder / "clone", tracking=True)
    forget_models(clone)
    shutil.rmtree(clone.folder / ".dvc/cache/runs")  # what is there already would not be trained
    clone.dvc("remote", "add", "-d", "storage", str(folder / "storage"))
    commits, data = [], []
    for epochs in (1, 2):
        clone.change(cells={"lstm": {"cell": "lstm"}}, train__epochs=epochs)
        clone.git("commit", "-qam", f"{epochs} epochs")
        clone.repro()
        clone.git("add", "dvc.lock", "data")
        clone.git("commit", "-qm", f"results of {epochs} epochs")
        clone.dvc("push", "-q")
        commits.append(clone.git("rev-parse", "HEAD~").strip())
        data.append(clone.digests())
    runs = [run["run_id"] for run in json.loads(clone.call("runs", "--json"))]
    return Versions(clone, commits, runs[::-1], data)


@pytest.fixture(scope="module")
def elsewhere(versions: Versions, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return versions.elsewhere(tmp_path_factory.mktemp("elsewhere") / "clone")


def test_each_version_has_its_run_in_mlflow_which_changes_no_byte(versions: Versions, plain: Clone) -> None:
    store = MlflowClient(f"sqlite:///{versions.clone.folder}/mlflow.db")
    metrics = json.loads((versions.clone.folder / "data/evaluation/lstm/metrics.json").read_text())
    older, newer = (store.get_run(run_id).data for run_id in versions.runs)
    assert newer.metrics["test/perplexity"] == metrics["perplexity"] < older.metrics["test/perplexity"]
    assert (older.params["train.epochs"], newer.params["train.epochs"]) == ("1", "2")
    without = {path: digest for path, digest in plain.digests().items() if "/lstm/" in path}
    assert len(without) > 10
    assert without.items() <= versions.data[1].items()


def test_another_clone_makes_the_first_run_again(versions: Versions, elsewhere: Clone) -> None:
    before, known = elsewhere.git("status", "--porcelain"), elsewhere.call("runs", "--json")
    done = elsewhere.done("rnnlm", "reproduce", versions.runs[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical")
    # Really run, one after the other, and nothing but them; no trace is left.
    assert re.findall(r"^> python -m (.+)", done.stderr, re.MULTILINE) == [
        "stages.pins",
        "stages.train lstm",
        "stages.evaluate lstm",
    ]
    assert "cached" not in done.stderr
    assert elsewhere.call("runs", "--json") == known
    assert elsewhere.git("status", "--porcelain") == before
    assert len(elsewhere.git("worktree", "list").splitlines()) == 1
    assert not (elsewhere.folder / "data/models/lstm/model.safetensors").exists()


@pytest.mark.soak
def test_from_download_on_everything_is_made_again(versions: Versions, elsewhere: Clone) -> None:
    result = json.loads(elsewhere.rnnlm("reproduce", versions.runs[1], "--from", "download", "--json"))
    assert result["verdict"] == "identical"


@pytest.mark.soak
def test_from_download_on_another_corpus_is_named(versions: Versions, elsewhere: Clone) -> None:
    rows = elsewhere.folder / "corpus" / "comments.csv"
    original = rows.read_bytes()
    rows.write_bytes(original + b"One more row.\n")
    try:
        told = elsewhere.rnnlm("reproduce", versions.runs[1], "--from", "download", status=11)
        assert "from stage download on" in told
        assert "corpus is not what the run read" in told
    finally:
        rows.write_bytes(original)


def test_a_tampered_data_file_is_found(versions: Versions, tmp_path: Path) -> None:
    clone = versions.elsewhere(tmp_path / "clone")
    clone.dvc("pull", "-q")
    ids = clone.folder / "data/encoded/train/ids.npy"
    digest = hashlib.md5(ids.read_bytes()).hexdigest()
    cached = clone.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    content = bytearray(cached.read_bytes())
    content[-2] ^= 1
    cached.chmod(0o644)
    cached.write_bytes(content)
    told = clone.fails("rnnlm", "reproduce", versions.runs[0])
    assert "data/encoded/train" in told
    assert "is not what its hash" in told


@pytest.mark.soak
def test_a_run_on_data_that_no_stage_wrote_cannot_be_made_again(tmp_path: Path) -> None:
    """What it read is in no cache; and who makes everything again gets other data."""
    clone = make_clone(tmp_path / "clone")
    clone.change(cells={"rnn": {"cell": "rnn"}})
    clone.git("commit", "-qam", "one cell")
    clone.repro("encode", "warm_start")
    path = clone.folder / "data/encoded/train/ids.npy"
    ids = np.load(path)
    ids[1:3] = ids[2:0:-1]  # the first two words change places
    path.chmod(0o644)
    np.save(path, ids)
    clone.dvc("repro", "--single-item", "train@rnn")
    (run,) = json.loads(clone.call("runs", "--json"))
    assert "data/encoded/train" in clone.fails("rnnlm", "reproduce", run["run_id"])
    told = clone.rnnlm("reproduce", run["run_id"], "--from", "download", status=11)
    assert told.startswith("different, from stage train on\ndata/encoded/train has other bytes")


@pytest.mark.soak
def test_uncommitted_changes_go_along_with_the_run(versions: Versions, tmp_path: Path) -> None:
    versions.elsewhere(tmp_path / "clone")
    clone = Clone(tmp_path / "clone", store=f"sqlite:///{tmp_path}/mlflow.db")
    clone.dvc("pull", "-q")
    clone.change(model__hidden_size=7)
    (clone.folder / "note.txt").write_text("a new file that git does not ignore\n")
    clone.repro()
    (run,) = json.loads(clone.call("runs", "--json"))
    clone.git("checkout", "-q", "--", "params.yaml")
    assert clone.rnnlm("reproduce", run["run_id"]).startswith("identical")

    # A patch that somebody changed no longer explains the run.
    (patch,) = (tmp_path / "mlruns").glob("*/artifacts/provenance/changes.patch")
    patch.write_text(patch.read_text().replace("+  hidden_size: 7", "+  hidden_size: 8"))
    told = clone.rnnlm("reproduce", run["run_id"], status=11)
    assert "different, from stage train on" in told
    assert "model.hidden_size in params.yaml is 8, the run had 7" in told


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket `bucket`."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in {
        "ACCESS_KEY_ID": "testing",
        "SECRET_ACCESS_KEY": "testing",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="bucket")
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def test_any_earlier_version_comes_back_from_s3(versions: Versions, s3: str, tmp_path: Path) -> None:
    for clone in (versions.clone, there := versions.elsewhere(tmp_path / "clone")):
        clone.dvc("remote", "add", "--local", "-f", "s3", "s3://bucket/rnnlm")
        clone.dvc("remote", "modify", "--local", "s3", "endpointurl", s3)
        clone.dvc("remote", "default", "--local", "s3")
    versions.clone.dvc("push", "-q", "--all-commits")
    for commit, data in zip(versions.commits, versions.data, strict=True):
        results = versions.clone.git("rev-list", "--reverse", "--ancestry-path", f"{commit}..HEAD").split()[0]
        there.git("checkout", "-q", results)
        there.dvc("pull", "-q")
        assert there.digests() == data
        assert there.repro() == []


@pytest.mark.soak
def test_models_that_dvc_restored_get_runs_and_versions(versions: Versions, tmp_path: Path) -> None:
    versions.elsewhere(tmp_path / "clone")
    clone = Clone(tmp_path / "clone", store=f"sqlite:///{tmp_path}/mlflow.db")
    clone.dvc("pull", "-q")
    assert clone.repro() == []
    clone.call("sync")
    (run,) = json.loads(clone.call("runs", "--json"))
    assert run["tags"]["restored"] == "true"
    assert run["aliases"] == ["challenger"]
    assert (clone.folder / "data/report/report.md").is_file()
    assert clone.rnnlm("reproduce", run["run_id"]).startswith("identical")


@pytest.mark.soak
def test_a_project_in_a_folder_of_a_larger_repository_is_rebuilt_and_retrained(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "all" / "ml" / "words", tracking=True)
    shutil.rmtree(clone.folder / ".git")
    clone.git("init", "-q", "-b", "main", str(tmp_path / "all"))
    clone.change(cells={"lstm": {"cell": "lstm"}})

    def commit() -> None:
        clone.git("add", "-A", ":/")
        clone.git("commit", "-qm", "change")

    commit()
    clone.repro()
    commit()
    clone.call("sync")
    assert "promoted" in clone.call("promote")
    assert clone.rnnlm("reproduce", "champion").startswith("identical")
    clone.change(model__hidden_size=11)
    commit()
    clone.rnnlm("retrain")
    clone.git("checkout", "-q", "main")
    clone.change(model__hidden_size=10)
    clone.repro()
    commit()
    clone.rnnlm("retrain")  # both sides have results: those of the branch stay, and the stages run
    assert clone.git("rev-parse", "--abbrev-ref", "HEAD").strip() == "retrained"
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.soak
def test_the_better_version_is_promoted_served_and_rolled_back(versions: Versions, elsewhere: Clone) -> None:
    """From the other clone, which has the current test sentences from DVC."""
    elsewhere.dvc("pull", "-q")
    older, newer = versions.runs
    compared = json.loads(elsewhere.call("compare", older, newer, "--json"))
    assert compared["parameters"]["train.epochs"] == ["1", "2"]
    assert compared["test"]["better"] == "B"
    assert compared["test"]["documents"] > 20
    assert set(compared["code"]) == {"git commit"}
    assert compared["data"] == {}

    def champion() -> str:
        (run,) = (run for run in json.loads(elsewhere.call("runs", "--json")) if "champion" in run["aliases"])
        return run["run_id"]

    first, second = (run["version"] for run in (compared["a"], compared["b"]))
    store = f"sqlite:///{versions.clone.folder}/mlflow.db"
    MlflowClient(store).set_registered_model_alias("rnnlm", "champion", first)
    assert champion() == older
    assert json.loads(elsewhere.call("promote", "--json"))["outcome"] == "promoted"
    assert champion() == newer

    with champion_server(versions.clone.folder) as url:

        def client(number: int) -> int:
            with requests.Session() as session:
                answers = [
                    ask(session, url, ["The cat sees fish.", "Nobody likes you!"][: 1 + i % 2]) for i in range(8)
                ]
            assert all(row["log_probability"] < 0 for rows in answers for row in rows)
            return len(answers)

        with ThreadPoolExecutor(8) as clients:
            assert sum(clients.map(client, range(8))) == 64

    elsewhere.call("rollback")
    assert champion() == older
    assert json.loads(elsewhere.call("promote", "--json"))["challenger"] == second


@pytest.mark.soak
def test_after_a_restore_and_a_gc_old_runs_are_made_again(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is committed, and one that no commit has; from this cache alone, as DVC has no remote here."""
    versions.clone.call("backup", str(tmp_path / "runs.tar"))
    clone = versions.clone.copy(tmp_path / "clone", tracking=True)
    clone.dvc("remote", "remove", "storage")
    clone.git("commit", "-qam", "no remote")
    clone.call("restore", str(tmp_path / "runs.tar"))
    clone.change(vocabulary__size=70)
    clone.repro()
    (run, *_) = json.loads(clone.call("runs", "--json"))
    assert run["run_id"] not in versions.runs
    clone.git("checkout", "-q", "--", ".")
    clone.dvc("checkout", "-q", "--force")

    unused = clone.folder / ".dvc/cache/files/md5/00" / ("0" * 30)
    unused.parent.mkdir(exist_ok=True)
    unused.write_text("of nobody")
    now = time.time
    monkeypatch.setattr(cleaning, "time", SimpleNamespace(time=lambda: now() + 40 * cleaning.DAY))
    assert "files in DVC's cache" in clone.call("gc", "--yes")
    assert not unused.exists()
    for run_id in (versions.runs[0], run["run_id"]):
        assert clone.rnnlm("reproduce", run_id).startswith("identical")
    assert clone.repro() == []
