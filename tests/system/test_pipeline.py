"""The whole pipeline on a tiny corpus, in a temporary clone, run the way a user runs it."""

import csv
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT

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
        folder: holds the project already, where `store` is given; else it becomes a copy of this one.
        tracking: whether its stages know MLflow.
        store: where MLflow keeps the runs, if not in the folder.
        """
        self.folder, self._tracking, self._store = folder, tracking, store
        if store is not None:
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
        kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        kept |= {"PYTHONPATH": str(self.folder)}  # the clone's code, not that of the installed project
        kept |= {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
        kept |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
        kept |= {"MLFLOW_TRACKING_URI": self._store} if self._store else {}
        return kept if self._tracking else kept | {"RNNLM_TRACKING": "off"}

    def git(self, *arguments: str) -> str:
        return self._run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self._run("dvc", *arguments)

    def fails(self, *command: str) -> str:
        """Standard error of a command that must end with a status that is not 0."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def rnnlm(self, *arguments: str, status: int = 0) -> str:
        return self._run("rnnlm", *arguments, status=status)

    def _run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == status, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def repro(self, *arguments: str) -> list[str]:
        """The stages that `dvc repro` ran, in order (a stage restored from the cache is not run)."""
        return re.findall(r"^Running stage '(.+)'", self.dvc("repro", *arguments), re.MULTILINE)

    def change(self, **values: object) -> None:
        """Change params.yaml: `train__epochs=2` sets train.epochs."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for dotted, value in values.items():
            *sections, key = dotted.split("__")
            section = content
            for name in sections:
                section = section[name]
            section[key] = value
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
        cells={
            "rnn": {"cell": "rnn", "bias": False},
            "lstm": {"cell": "lstm"},
            "gru": {"cell": "gru", "embedding_dim": 8},
        },
    )
    clone.git("commit", "-qam", "a tiny corpus")
    return clone


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose pipeline has run once; tests that share it leave it as they found it."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    clone._run(sys.executable, "-m", "tools.plots_page", ".dvc/plots.html")  # as `make setup` does
    assert sorted(clone.repro()) == sorted(STAGE_ORDER)
    return clone


def test_the_first_run_leaves_what_the_readme_promises(built: Clone) -> None:
    data = built.folder / "data"
    for cell in CELLS:
        metrics = json.loads((data / "evaluation" / cell / "metrics.json").read_text())
        assert metrics["perplexity_low"] <= metrics["perplexity"] <= metrics["perplexity_high"]
        assert 1 < metrics["perplexity"] < 80
        samples = (data / "evaluation" / cell / "samples.txt").read_text()
        assert len(samples.splitlines()) == 5
        assert "UNKNOWN_TOKEN" not in samples
        assert "SENTENCE_START" not in samples
    report = (data / "report" / "report.md").read_text()
    for name in (*CELLS, "trigram"):
        assert name in report
    assert list((data / "report").glob("*.png"))
    assert "perplexity" in built.dvc("metrics", "show")
    table = built._run("rnnlm", "table")
    assert all(cell in table for cell in CELLS)
    suggestions = built._run("rnnlm", "suggest", "The cat")
    assert suggestions.strip()


def test_the_plots_page_needs_nothing_from_the_web(built: Clone) -> None:
    built.dvc("plots", "show", "-o", "dvc_plots")
    page = (built.folder / "dvc_plots" / "index.html").read_text()
    assert "window.vegaEmbed=" in page.replace(" ", "")
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert all(f'"rev": "data/models/{cell}' in page or cell in page for cell in CELLS)


def test_one_run_a_cell_in_mlflow(built: Clone) -> None:
    script = (
        "import json, mlflow; from pipeline.tracking import store; store.connect(); "
        "print(json.dumps([r.data.metrics | r.data.tags for r in mlflow.search_runs(search_all_experiments=True,"
        " output_format='list')], default=str))"
    )
    runs = json.loads(built._run(sys.executable, "-c", script).splitlines()[-1])
    assert len(runs) == len(CELLS)
    assert all(any("perplexity" in key for key in run) for run in runs)


def test_a_second_repro_runs_nothing_and_git_stays_clean_of_stray_files(built: Clone) -> None:
    assert built.repro() == []
    untracked = [line for line in built.git("status", "--porcelain", "-uall").splitlines() if line.startswith("??")]
    for line in untracked:
        assert re.fullmatch(r"\?\? (dvc\.lock|data/(models/\w+/history\.csv|evaluation/\w+/metrics\.json))", line), line


def test_data_comes_back_from_the_cache_without_training(built: Clone) -> None:
    before = built.digests()
    shutil.rmtree(built.folder / "data")
    assert built.repro() == []
    assert built.digests() == before


def test_git_checkout_and_dvc_checkout_bring_data_back(built: Clone) -> None:
    before = built.digests()
    built.git("add", "dvc.lock", "data")
    built.git("commit", "-q", "--allow-empty", "-m", "results")
    shutil.rmtree(built.folder / "data")
    built.git("checkout", "--", "data")
    built.dvc("checkout")
    assert built.digests() == before
    assert built.git("status", "--porcelain") == ""


def test_every_command_of_the_readme_works_as_printed(built: Clone) -> None:
    """The block under "Work with it", `dvc exp run` included."""
    block = (PROJECT / "README.md").read_text().partition("## Work with it")[2].partition("### ")[0]
    commands = re.findall(r"^(?:dvc|rnnlm) .+?(?= *#|$)", block, re.MULTILINE)
    assert len(commands) >= 10
    before = yaml.safe_load((built.folder / "params.yaml").read_text())
    built.git("add", "dvc.lock", "data")
    built.git("commit", "-q", "--allow-empty", "-m", "results")
    (built.folder / "sentences.txt").write_text("The cat sees fish.\nNobody likes you!\n")
    printed = {}
    for command in commands:
        if command.startswith("dvc exp run"):
            command += " --name changed"  # else DVC thinks one up
        if command == "rnnlm rollback":
            assert "nothing to go back to" in built.fails(*shlex.split(command))  # the first champion is the only one
            continue
        printed[command] = built._run(*shlex.split(command))
        if command.startswith("dvc exp run"):
            assert yaml.safe_load((built.folder / "params.yaml").read_text()) != before
            # Another size changes nothing of the text.
            ran = re.findall(r"^Running stage '(.+)'", printed[command], re.MULTILINE)
            assert sorted(ran) == sorted(
                [*(f"{stage}@{c}" for stage in ("train", "evaluate") for c in CELLS), "report"]
            )
            for name in ("hidden_size", "perplexity"):
                assert name in built.dvc("exp", "diff", "HEAD", "changed")
            assert "perplexity" in built.dvc("metrics", "diff")
            built.git("checkout", "--", ".")
            built.dvc("checkout")
    assert len(printed["rnnlm generate --count 5"].splitlines()) == 5
    assert re.fullmatch(r"(-\d+\.\d+\t\d+\n){2}", printed["rnnlm score sentences.txt"])
    assert "changed" in printed["dvc exp show"]
    assert "challenger, champion" in built._run("rnnlm", "runs")
    assert "promoted" in printed["rnnlm promote"]
    assert "cannot be said" in printed["rnnlm compare champion challenger"]  # they are the same
    assert yaml.safe_load((built.folder / "params.yaml").read_text()) == before
    (built.folder / "sentences.txt").unlink()
    assert built.repro() == []


def test_a_new_row_reruns_the_pipeline_and_keeps_old_documents_in_their_splits(built: Clone) -> None:
    import pyarrow.parquet as parquet

    path = built.folder / "corpus" / "comments.csv"
    original = path.read_bytes()
    tokens = built.folder / "data" / "tokens" / "sentences.parquet"

    def splits() -> dict[str, str]:
        table = parquet.read_table(tokens)
        return dict(zip(table["document"].to_pylist(), table["split"].to_pylist(), strict=True))

    before = splits()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["A new day brings the old man bread. Nobody minds it."])
    ran = built.repro("vocabulary")
    assert ran == ["download", "tokenize", "vocabulary"]
    after = splits()
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
    path.write_bytes(original)
    assert built.repro() == []


@pytest.mark.parametrize(
    ("changes", "stage", "expected"),
    [
        ({"train__epochz": 3}, "train@rnn", "train.epochz: unknown key"),
        ({"model__dropout": 1.5}, "train@rnn", "model.dropout: Input should be less than 1, got 1.5"),
        ({"vocabulary__size": 100_000}, "vocabulary", "vocabulary"),
        ({"download__path": "corpus/nothing.csv"}, "download", "nothing.csv"),
        ({"download__text_column": "text"}, "download", "column"),
        ({"tokenize__language": "klingon"}, "tokenize", "klingon"),
        ({"tokenize__splits": {"train": 1, "valid": 1e-9, "test": 1}}, "tokenize", "valid"),
    ],
)
def test_bad_parameters_end_in_one_clear_line(
    built: Clone, changes: dict[str, object], stage: str, expected: str
) -> None:
    path = built.folder / "params.yaml"
    original = path.read_text()
    built.change(**changes)
    try:
        module, _, cell = stage.partition("@")
        error = built.fails(sys.executable, "-m", f"stages.{module}", *filter(None, [cell]))
    finally:
        path.write_text(original)
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert expected in error
    assert built.repro() == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.csv", b"body\n\n  \n", "empty corpus"),
        ("latin.csv", "body\nnaïve\n".encode("latin-1"), "line 2 (byte 7): not UTF-8"),
        ("cut.jsonl", b'{"body": "a line."}\n{"body": "half a', "line 2: not valid JSON"),
    ],
)
def test_a_bad_corpus_ends_in_one_clear_line_and_leaves_no_half_file(
    built: Clone, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    path, before = built.folder / "params.yaml", built.digests()
    original = path.read_text()
    built.change(download__path=str(tmp_path / name))
    try:
        error = built.fails(sys.executable, "-m", "stages.download")
    finally:
        path.write_text(original)
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert name in line
    assert expected in line
    assert built.digests() == before


def test_two_runs_from_scratch_give_the_same_bytes(built: Clone, tmp_path: Path) -> None:
    other = make_clone(tmp_path)
    other.repro()
    assert other.digests() == built.digests()
