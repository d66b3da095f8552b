"""A git repository with a bare remote, as small as can be, and one whose stage trains nothing."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.retraining import retrain
from pipeline.retraining.outcome import write_reports
from pipeline.review import gates as gate
from tests.conftest import PROJECT


@dataclass
class Repository:
    """A clone that knows nobody's name, and its remote."""

    folder: Path
    bare: Path

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        environment = os.environ | {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
        environment |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
        done = subprocess.run(
            ["git", *arguments], cwd=folder or self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str = "change", **files: str | None) -> str:
        """Write files (`dvc_lock`: dvc.lock, `metrics`: those of a model, else NAME.yaml; None removes) and commit."""
        for name, content in files.items():
            path = self.folder / {"dvc_lock": "dvc.lock", "metrics": METRICS}.get(name, f"{name}.yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def add_pipeline(self, stages: str, script: str, ignored: str) -> None:
        """Commit the project's parameters, the text of a dvc.yaml, the train.sh that it runs, and what git ignores."""
        (self.folder / ".dvc").mkdir()
        for name, text in {
            "params.yaml": (PROJECT / "params.yaml").read_text().replace("epochs: auto", "epochs: 3"),
            ".dvc/config": "[core]\n    analytics = false\n",
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
            "dvc.yaml": stages,
            "train.sh": script,
            ".gitignore": ignored,
            "warm_start.json": "{}\n",
        }.items():
            (self.folder / name).write_text(text)
        self.commit("a pipeline")

    def clone(self, folder: Path) -> Path:
        """Another clone of the remote."""
        self.git("clone", "-q", str(self.bare), str(folder))
        return folder

    def read(self, commit: str, path: str) -> str:
        return self.git("show", f"{commit}:{path}")


METRICS = "data/evaluation/lstm/metrics.json"
# The hashes of a champion's files.
FILES = {"config.json": "1" * 32, "model.safetensors": "2" * 32, "vocabulary.tsv": "3" * 32}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        for part in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{who}_{part}", raising=False)
    made = Repository(tmp_path / "clone", tmp_path / "bare.git")
    made.folder.mkdir()
    made.git("init", "-q", "-b", "main")
    made.git("init", "-q", "--bare", "-b", "main", str(made.bare), folder=tmp_path)
    made.git("remote", "add", "origin", str(made.bare))
    (made.folder / ".gitignore").write_text(".rnnlm/\n")
    made.commit("start", params="size: 1\n")
    made.git("push", "-q", "origin", "main")
    monkeypatch.chdir(made.folder)
    return made


FIGURES = {"perplexity": 12.0, "unknown_share": 0.05}
STAGE = """
stages:
  pins:
    cmd: mkdir -p data/pins && echo "train/train.sh $(grep -v '^#' train.sh | md5sum | cut -c1-9)" > data/pins/train.txt
    deps: [train.sh]
    outs:
    - data/pins/train.txt: {persist: true}
  train:
    foreach: [lstm]
    do:
      cmd: sh train.sh
      deps: [warm_start.json, data/pins/train.txt]
      params: [train.epochs]
      outs:
      - data/models/lstm/history.csv: {cache: false}
"""
# What the stage does: files beside the checkout let somebody else push meanwhile, or make it fail.
SCRIPT = """
test ! -e ../rival || sh ../rival
test ! -e ../full || { echo "error: no space"; exit 1; }
echo tracking: $RNNLM_TRACKING
mkdir -p data/models/lstm
grep epochs: params.yaml > data/models/lstm/history.csv
"""


@pytest.fixture
def ready(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project with one stage, in git and DVC, and MLflow switched off; only the model is not there."""
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    monkeypatch.setattr(gate, "candidate", lambda _: gate.Candidate("lstm", "digest", FIGURES))
    monkeypatch.setattr(gate, "scoring_speed", lambda _: 5000.0)
    monkeypatch.setattr(retrain, "write_reports", lambda result, folder, _: write_reports(result, folder, []))
    repository.add_pipeline(STAGE, SCRIPT, ignored="/data/pins\n")
    return repository


def trigger(repository: Repository, before: str, after: str) -> None:
    """Commit a change of params.yaml on the default branch."""
    repository.git("checkout", "-q", "main")
    text = Path("params.yaml").read_text()
    assert before in text
    repository.commit(params=text.replace(before, after))


def read(folder: Path) -> dict:
    return json.loads((folder / "retrain.json").read_text())
