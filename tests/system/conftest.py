"""A clone of the project as a user has it, a site with remotes and machines, a tracking server and a model server.

A clone is built from scratch, once for all tests and processes of pytest: `plain`, without MLflow. A test that changes
a clone takes a copy; one whose text must be ready takes `encoded`. What MLflow adds and must not change is seen in
`built`, a second clone from scratch, which only `make soak` makes.
"""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import put
from tests.conftest import PROJECT
from tests.forking import BIN, LOADED, Server
from tests.projects import empty_database

# No byte depends on the number of threads, and the processes of pytest keep all processors busy as it is. As it is
# named, what makes a run again with the number that the run had is forked, too.
THREADS = {"OMP_NUM_THREADS": "1"}
FORKING = Server(**THREADS)
RAN = re.compile(r"^Running stage '(.+)'", re.MULTILINE)
CELLS = ("rnn", "lstm", "gru")
STAGE_ORDER = [
    "pins",
    "download",
    "tokenize",
    "vocabulary",
    "encode",
    "warm_start",
    *(f"train@{cell}" for cell in CELLS),
    *(f"evaluate@{cell}" for cell in CELLS),
    "baselines",
    "report",
]


class Clone:
    """A clone of the project with its own environment variables: nothing of the user's own settings or store."""

    def __init__(self, folder: Path, tracking: bool = True, store: str | None = None) -> None:
        """Args:
        folder: becomes a copy of this project, unless it holds one already.
        tracking: whether its stages know MLflow.
        store: where MLflow keeps the runs, if not in the folder.
        """
        self.folder, self._tracking, self._store = folder, tracking, store
        self.forks = True
        if (folder / "dvc.yaml").exists():
            return
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=PROJECT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in filter(None, files):
            if name == "dvc.lock" or name.startswith("data/"):
                continue  # results of the project's own corpus
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "as cloned")

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "RNNLM_"))}
        kept = THREADS | kept
        kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        kept |= {"PYTHONPATH": str(self.folder)}  # the clone's code, not that of the installed project
        kept |= {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
        kept |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
        kept |= {"MLFLOW_TRACKING_URI": self._store} if self._store else {}
        return kept if self._tracking else kept | {"RNNLM_TRACKING": "off"}

    def copy(self, folder: Path, tracking: bool = False) -> "Clone":
        """This clone with its data and its DVC cache once more, and without its runs in MLflow."""
        ignored = shutil.ignore_patterns("mlflow.db", "mlruns", "__pycache__")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        if tracking:
            (folder / "mlflow.db").write_bytes(empty_database())
        return Clone(folder, tracking)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.run("dvc", *arguments)

    def rnnlm(self, *arguments: str, status: int = 0) -> str:
        return self.run("rnnlm", *arguments, status=status)

    def call(self, *arguments: str) -> str:
        """As `rnnlm` in this process, which spares the seconds that the imports of a process take."""
        with patch.dict(os.environ, self.environment, clear=True), chdir(self.folder):
            done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def stage(self, name: str, *arguments: str) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments)

    def run(self, *command: str, status: int = 0) -> str:
        done = self.done(*command)
        assert done.returncode == status, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, *command: str) -> str:
        """Standard error of a command that must end with a status that is not 0."""
        done = self.done(*command)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def done(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A command that has ended, whatever its status."""
        done = FORKING.run(command, self.folder, self.environment) if self.forks else None
        return done or subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def repro(self, *arguments: str) -> list[str]:
        """The stages that `dvc repro` ran, in order (a stage restored from the cache is not run)."""
        return RAN.findall(self.dvc("repro", *arguments))

    def change(self, **values: object) -> None:
        """Change params.yaml: `train__epochs=2` sets train.epochs."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for dotted, value in values.items():
            put(content, dotted.replace("__", "."), value)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def digests(self) -> dict[str, str]:
        """sha256 of every file under data/, by name."""
        files = sorted(path for path in (self.folder / "data").rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_corpus(path: Path, documents: int, seed: int = 0) -> None:
    """A CSV of small English-like comments whose words follow one another by a rule that can be learned."""
    chance = random.Random(seed)
    subjects, verbs = (
        ["the cat", "a dog", "my friend", "nobody", "the old man"],
        ["sees", "likes", "doesn't mind", "eats"],
    )
    objects, ends = ["fish", "the moon", "bread and butter", "you", "a good book"], [".", "!", " today.", " again?"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body"])
        for number in range(documents):
            sentences = [
                f"{chance.choice(subjects).capitalize()} {chance.choice(verbs)} {chance.choice(objects)}"
                f" number {chance.randrange(40)}{chance.choice(ends)}"
                for _ in range(4)
            ]
            writer.writerow([" ".join(sentences[:2]) + "\n\n" + " ".join(sentences[2:]) + f' He said "{number}".'])


def make_clone(folder: Path, tracking: bool = True) -> Clone:
    """A clone with a tiny corpus and three tiny models; nothing has run there yet."""
    clone = Clone(folder, tracking)
    write_corpus(folder / "corpus" / "comments.csv", 300)
    clone.change(
        download__source="files",
        vocabulary__size=80,
        model__hidden_size=12,
        train__epochs=2,
        train__batch_tokens=256,
        train__sampled_words=20,
        evaluate__bootstrap_samples=100,
        evaluate__generated_sentences=5,
        tokenize__splits={"train": 80, "valid": 10, "test": 10},
        retrain__better_than_ngram=False,  # in so little text counting wins
        retrain__seed_sd=0.009,  # and `auto` promotes hardly anything
        cells={
            "rnn": {"cell": "rnn", "bias": False},
            "lstm": {"cell": "lstm"},
            "gru": {"cell": "gru", "embedding_dim": 8},
        },
    )
    clone.git("commit", "-qam", "a tiny corpus")
    return clone


def with_long_training(clone: Clone) -> Clone:
    """Change the cells of a clone: one takes some seconds to train, and one does not."""
    gru = {"cell": "gru", "embedding_dim": 8, "epochs": 15, "patience": 15}
    clone.change(cells={"rnn": {"cell": "rnn", "bias": False}, "gru": gru})
    clone.git("commit", "-qam", "longer")
    return clone


def built_once(factory: pytest.TempPathFactory, name: str, tracking: bool) -> Clone:
    """A clone that has run from scratch; the first process of pytest that asks builds it, and the others wait."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a build that failed
            folder.mkdir()
            clone = make_clone(folder, tracking)
            clone.run(sys.executable, "-m", "tools.plots_page", ".dvc/plots.html")  # as `make setup` does
            # No byte depends on the number of threads.
            threads = {"OMP_NUM_THREADS": "3", "MKL_DYNAMIC": "FALSE"} if tracking else {}
            dvc = [*LOADED, str(BIN / "dvc")] if tracking else ["dvc"]  # what is forked otherwise has its threads
            with patch.dict(os.environ, threads):
                assert sorted(RAN.findall(clone.run(*dvc, "repro"))) == sorted(STAGE_ORDER)
            done.touch()
    return Clone(folder, tracking)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose pipeline has run from scratch, with MLflow; tests only read it."""
    return built_once(tmp_path_factory, "built", tracking=True)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same without MLflow; tests only read and copy it."""
    return built_once(tmp_path_factory, "plain", tracking=False)


@pytest.fixture
def encoded(plain: Clone, tmp_path: Path) -> Clone:
    """A clone whose text is ready to be trained on, in a model that takes some seconds."""
    clone = with_long_training(plain.copy(tmp_path / "encoded"))
    forget_models(clone)
    return clone


def forget_models(clone: Clone) -> None:
    """Take away what the stages after the text ones have made; DVC's cache still has it."""
    for folder in ("data/models", "data/evaluation", "data/report", "data/curves", ".rnnlm"):
        shutil.rmtree(clone.folder / folder)


class Site:
    """Remotes of git and DVC, a database of MLflow, and checkouts that come and go as CI's machines do."""

    def __init__(self, folder: Path, warm_start: bool) -> None:
        self.folder, self.bare, self.storage = folder, folder / "bare.git", folder / "storage"
        self.store = f"sqlite:///{folder}/mlflow.db"
        (folder / "mlflow.db").write_bytes(empty_database())
        self.corpus = folder / "comments.csv"
        self.work = make_clone(folder / "work")
        self.work.change(
            download__path=str(self.corpus),
            cells={"lstm": {"cell": "lstm"}},
            train__batch_tokens=128,
            train__learning_rate=0.03,
            retrain={
                "confidence": 0.95,
                "seed_sd": 0.009,
                "better_than_ngram": False,
                "worst_perplexity": 10.0,  # of the very first it is about 6
                "largest_unknown_share": 0.5,
                "slowest_scoring": 1.0,
                "old_sentences": True,
                "warm_start": warm_start,
            },
        )
        self.work.dvc("remote", "add", "-q", "-d", "storage", str(self.storage))
        self.work.git("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.work.git("remote", "add", "origin", str(self.bare))
        self.trigger("as it is set up")

    def trigger(self, message: str) -> None:
        """A push to the default branch."""
        self.work.git("commit", "-q", "-a", "-m", message)
        self.work.git("push", "-q", "origin", "main")

    def machine(self, name: str) -> Clone:
        """A fresh clone of the default branch."""
        self.work.git("clone", "-q", "--branch", "main", str(self.bare), str(self.folder / name))
        return Clone(self.folder / name, store=self.store)

    def champion(self) -> str | None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            return str(MlflowClient(self.store).get_registered_model("rnnlm").aliases["champion"])
        except (MlflowException, KeyError):
            return None

    def check(self) -> None:
        """The branch on the remote names only what DVC's remote has, and its results are those of one run."""
        if "retrained" not in self.work.git("ls-remote", "--heads", str(self.bare)):
            return

        def read(path: str) -> bytes:
            command = ["git", "-C", str(self.bare), "show", f"retrained:{path}"]
            return subprocess.run(command, check=True, capture_output=True).stdout

        for stage in yaml.safe_load(read("dvc.lock"))["stages"].values():
            for out in stage.get("outs", []):
                if out["path"].endswith(("metrics.json", "history.csv")):  # in git
                    assert hashlib.md5(read(out["path"])).hexdigest() == out["md5"]
                    continue
                stored = self._stored(out["md5"])
                files = [file["md5"] for file in json.loads(stored.read_text())] if stored.suffix == ".dir" else []
                assert all(self._stored(digest).is_file() for digest in files)

    def _stored(self, digest: str) -> Path:
        path = self.storage / "files" / "md5" / digest[:2] / digest[2:]
        assert path.is_file()
        return path


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class TrackingServer:
    """MLflow's own server on loopback, which can be killed and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    (folder / "mlflow.db").write_bytes(empty_database())
    server = TrackingServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
