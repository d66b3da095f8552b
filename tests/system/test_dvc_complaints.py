"""What users of DVC complain of most, by its number in DVC's tracker: the fault in DVC alone, then what is here.

docs/dvc-and-mlflow.md says it in words. Those of MLflow are in test_mlflow_complaints.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.provenance.warm_start_file import write_digests
from tests.conftest import PROJECT
from tests.projects import Project, lock_everything
from tests.system.bare_dvc import begin, commit, dvc, git, graph, repro

CELLS = {"rnn": {"cell": "rnn"}, "gru": {"cell": "gru"}}
PYTHON = sys.executable
DVC = f"{PYTHON} -m dvc"

pytestmark = pytest.mark.slow  # another version of DVC alone could change much


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.org")
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    (home := tmp_path / "home").mkdir()
    monkeypatch.chdir(home)
    return home


def run(*command: str, status: int = 0) -> str:
    """What a command prints, standard error included."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dvc_755_two_stages_at_once_in_one_checkout(folder: Path) -> None:
    """DVC refuses the second, for an input that nobody writes; with `--single-item` both run."""
    # One is under way while the other is asked for.
    inner = f"{DVC} repro train@gru 2> busy; {DVC} repro --single-item --force train@gru 2> error"
    begun = ["echo ${key} >> ran", f"if [ ${{key}} = rnn ]; then {inner}; fi"]
    graph(CELLS, train=["mkdir -p data/models/${key}", *begun, *made_by_train()])
    assert repro("train@rnn", single_item=True, force=True) == ["train@rnn"]
    assert "is busy, it is being blocked by" in Path("busy").read_text()
    assert Path("error").read_text() == ""
    assert Path("ran").read_text() == "rnn\ngru\n"
    assert repro() == []


def made_by_train() -> list[str]:
    train = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["train"]["do"]
    return [f"echo {out} > {out}" for out in (*train["outs"], *(next(iter(plot)) for plot in train["plots"]))]


def test_dvc_8009_9221_an_interrupted_training_run_resumes(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """DVC deletes what a failed stage has left, and dropped its own checkpoints; ours lie where it deletes nothing."""
    from pipeline.training.checkpoint import Checkpoints
    from stages.train import train

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    train_once = "ls checkpoint >> seen; echo step >> checkpoint; test -e again || (touch again; exit 1)"
    ours = yaml.safe_load(Path("dvc.yaml").read_text())
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": train_once, "outs": ["checkpoint"]}}}))
    with pytest.raises(Exception, match="failed to reproduce 'train'"):
        repro()
    assert Path("checkpoint").exists()
    repro()
    assert Path("seen").read_text() == ""
    assert Path("checkpoint").read_text() == "step\n"  # of one run, not of two

    Path("dvc.yaml").write_text(yaml.safe_dump(ours))
    Path("data/pins").mkdir()
    Path("data/pins/train.txt").touch()
    write_digests({}, Path("data/warm_start"))
    save_if_due = Checkpoints.save_if_due

    def killed_after_two_steps(self: Checkpoints, state) -> None:
        save_if_due(self, state)
        if state.step == 2:
            self.save(state)
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["train", "lstm"])
    with patch.object(Checkpoints, "save_if_due", killed_after_two_steps), pytest.raises(KeyboardInterrupt):
        train()
    (project.models / "model.safetensors").write_bytes(b"half of it")
    assert repro("train@lstm", single_item=True) == ["train@lstm"]
    assert "resuming from a checkpoint at step 2" in capfd.readouterr().err


def test_dvc_10673_experiments_at_once(folder: Path, tmp_path: Path) -> None:
    """Not seen in DVC 3.67.1 (24 experiments, 8 workers); the report is open. Without a queue nothing is left to race.

    Two `dvc exp run --temp`, which are under way at the same time, both end, with results of their own.
    """
    both = f"[ -e {tmp_path}/began-a -a -e {tmp_path}/began-b ]"
    wait = f"touch {tmp_path}/began-$DVC_EXP_NAME; until {both}; do sleep 0.05; done"
    begin(
        {"one": {"cmd": [wait, "cp params.yaml out"], "params": ["value"], "outs": ["out"]}}, params__yaml="value: 0\n"
    )
    command = [PYTHON, "-m", "dvc", "exp", "run", "--temp", "-S", "value=2", "-n", "b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as other:
        with dvc() as repo:
            (first,) = repo.experiments.run(tmp_dir=True, params=["value=1"], name="a")
        printed, _ = other.communicate()
    assert other.returncode == 0, printed
    assert git("show", f"{first}:params.yaml") == "value: 1"
    second = git("for-each-ref", "--format=%(objectname)", "refs/exps/**/b")
    assert git("show", f"{second}:params.yaml") == "value: 2"


def test_dvc_6465_9162_text_that_git_does_not_track(folder: Path, tmp_path: Path) -> None:
    """A temporary experiment works in a copy without it and says nothing; our stages name it."""
    from dvc.cli import main

    check = f"{PYTHON} -c 'from pipeline.params import load_params; load_params()' 2>> {tmp_path}/said"
    stage = {"cmd": [check, f"ls corpus > {tmp_path}/seen", "touch out"], "deps": ["corpus"], "params": ["train"]}
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["download"]["source"] = "files"
    Path("corpus").mkdir()
    Path("corpus/old.txt").touch()
    begin({"one": stage | {"outs": ["out"]}}, params__yaml=yaml.safe_dump(params))
    Path("corpus/new.txt").touch()
    with dvc() as repo:
        repo.experiments.run(tmp_dir=True, params=["train.seed=2"])
    assert (tmp_path / "seen").read_text() == "old.txt\n"
    said = (tmp_path / "said").read_text()
    assert said.startswith("warning: this experiment runs in a copy of the project without corpus/new.txt, ")
    assert len(said.splitlines()) == 1
    git("add", "corpus/new.txt")
    with dvc() as repo:
        repo.experiments.run(tmp_dir=True, params=["train.seed=3"])
    assert (tmp_path / "seen").read_text() == "new.txt\nold.txt\n"
    assert (tmp_path / "said").read_text() == said
    # Where git ignores all text, DVC takes it, and git the small file that DVC writes.
    shutil.copy(PROJECT / "corpus" / ".gitignore", "corpus")
    Path("corpus/ignored.csv").write_text("body\ntext\n")
    assert main(["add", "--quiet", "corpus/ignored.csv"]) == 0
    git("add", "corpus")
    git("commit", "-qm", "text")
    assert "corpus/ignored.csv" not in git("ls-files").splitlines()
    with dvc() as repo:
        repo.experiments.run(tmp_dir=True, params=["train.seed=4"])
    assert "ignored.csv" in (tmp_path / "seen").read_text().splitlines()
    assert (tmp_path / "said").read_text() == said


def test_dvc_7390_9949_where_nothing_changed_nothing_runs_and_no_file_is_read(folder: Path) -> None:
    """Fixed upstream since, where DVC may remember hashes; benchmarks/dvc_and_mlflow.py has the time for 100 cells."""
    from dvc_data.hashfile import hash as hashing

    graph({f"c{number}": {"cell": "gru", "hidden_size": number} for number in range(1, 6)})
    config = Path("data/models/c1/config.json")
    with patch.object(hashing, "_hash_file", wraps=hashing._hash_file) as hashed:

        def read() -> list[str]:
            """Files of the project whose bytes were read since the last time; lists of folders have no such names."""
            found = [call.args[0] for call in hashed.call_args_list if call.args[0].startswith(str(folder))]
            hashed.reset_mock()
            return found

        config.write_text("other")
        assert repro(dry=True) != []
        assert read() == [str(folder / config)]
        config.write_text("data/models/c1/config.json\n")
        repro()
        read()
        assert repro() == []
        assert read() == []


def test_dvc_1015_a_merge_makes_no_lock_of_two_runs(folder: Path) -> None:
    """Git and a person can make a dvc.lock of no run, and DVC believes it; with .gitattributes one stays whole."""
    train = {"cmd": "cat text params.yaml > model", "deps": ["text", "zeros"], "params": ["rate"], "outs": ["model"]}
    begin({"train": train}, text="old", zeros="0", params__yaml="rate: 1\n")
    repro()
    commit("base")
    git("switch", "-q", "-c", "theirs")
    Path("params.yaml").write_text("rate: 2\n")
    repro()
    commit("another rate")
    git("switch", "-q", "main")
    Path("text").write_text("new")
    repro()
    commit("another text")
    ours = Path("dvc.lock").read_text()

    assert subprocess.run(["git", "merge", "-q", "theirs"], capture_output=True).returncode == 1
    with pytest.raises(Exception, match="corrupted"):
        repro()
    above, mine, _, _, below = parts_of_conflict(Path("dvc.lock").read_text())
    Path("dvc.lock").write_text(above + mine + below)  # as a person solves it
    git("checkout", "-q", "--ours", "model") if git("ls-files", "model") else None
    with dvc() as repo:
        repo.checkout(force=True)
    assert repro() == []
    assert Path("params.yaml").read_text() == "rate: 2\n"
    assert Path("model").read_text() == "newrate: 1\n"  # no such run has been

    git("merge", "--abort")
    Path(".gitattributes").write_text((PROJECT / ".gitattributes").read_text())
    commit("as here")
    assert subprocess.run(["git", "merge", "-q", "theirs"], capture_output=True).returncode == 1
    assert Path("dvc.lock").read_text() == ours
    assert repro() == ["train"]
    assert Path("model").read_text() == "newrate: 2\n"


def parts_of_conflict(text: str) -> list[str]:
    """What stands above a conflict, ours, the line between, theirs, and what stands below."""
    above, rest = text.split("<<<<<<< HEAD\n")
    mine, rest = rest.split("=======\n")
    theirs, below = rest.split(">>>>>>> theirs\n")
    return [above, mine, "=======\n", theirs, below]


def test_dvc_5172_a_cell_added_by_set_param_alone(folder: Path) -> None:
    """DVC refuses a key that is not in params.yaml; `+` adds it, and dvc.yaml, which names no cell, has its stages."""
    graph(CELLS)
    with dvc() as repo, pytest.raises(Exception, match="Invalid") as refused:
        repo.experiments.run(params=["cells.wide.cell=lstm"])
    assert "Could not override 'cells.wide.cell'" in str(refused.value.__cause__)
    with dvc() as repo:
        (experiment,) = repo.experiments.run(params=["+cells.wide={cell: lstm, hidden_size: 256}"])
    added = set(git("diff", "--name-only", "HEAD", experiment).splitlines())
    assert added >= {"params.yaml", "dvc.lock", "data/models/wide/history.csv", "data/evaluation/wide/metrics.json"}
    lock = yaml.safe_load(git("show", f"{experiment}:dvc.lock"))["stages"]
    assert lock["train@wide"]["params"]["params.yaml"]["cells.wide"] == {"cell": "lstm", "hidden_size": 256}


# What the stage leaves.
REPORT = "mkdir -p data/report data/curves; echo curves > data/curves/history.csv"


def test_dvc_9260_a_killed_experiment_leaves_no_branch(folder: Path) -> None:
    """DVC leaves git without a branch, so that the next commits are on none; our commands say so until it is mended.

    That its locks stay, and that `exp list` shows no new experiments, is fixed upstream since.
    """
    graph({"gru": {"cell": "gru"}}, report=["test -e data/calm || kill -9 $PPID", REPORT])
    warned = "`git switch main` before you commit"
    assert warned not in rnnlm("verify").stderr
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("cells:", "cells: # or more"))
    run(PYTHON, "-m", "dvc", "exp", "run", "-f", "-s", "report", status=-9)
    assert git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    commit("on no branch")
    assert git("log", "-1", "--format=%s", "main") != "on no branch"
    assert warned in rnnlm("verify").stderr
    git("switch", "-q", "main")
    assert warned not in rnnlm("verify").stderr
    git("switch", "-q", "-c", "other")
    assert warned not in rnnlm("verify").stderr
    git("switch", "-q", "main")
    Path("data/calm").touch()
    git("pack-refs", "--all")
    with dvc() as repo:
        assert repo.experiments.run(targets=["report"], single_item=True, force=True, name="next")
        assert "next" in str(repo.experiments.ls())


def rnnlm(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_dvc_2050_results_are_verified_without_the_cache(folder: Path, project: Project) -> None:
    """Without its cache DVC takes whole results for none, and would train again; `rnnlm verify` reads every byte.

    That a clone without any data can be checked against its dvc.lock is fixed upstream since (`--allow-missing`).
    """
    lock_everything()
    done = rnnlm("verify")
    count = sum(len(stage["outs"]) for stage in yaml.safe_load(Path("dvc.lock").read_text())["stages"].values())
    assert done.stdout == f"{count} of {count} results are as dvc.lock says\n"
    assert done.exit_code == 0
    with dvc() as repo:
        told = [entry["changed outs"] for entry in repo.status()["report"] if "changed outs" in entry]
        assert [outs["data/report"] for outs in told] == ["not in cache"]
    weights = project.models / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    (project.evaluation / "samples.txt").unlink()
    done = rnnlm("verify")
    assert done.exit_code == 1
    *wrong, last = done.stdout.splitlines()
    assert sorted(wrong) == [f"{project.evaluation}/samples.txt: is missing", f"{weights}: has other bytes"]
    assert last == f"{count - 2} of {count} results are as dvc.lock says"
