"""What a run was made from: code, digests, machine."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.provenance.inputs import LARGEST_NEW_FILE, changes, code_tags, dvc_digest, machine_params, stage_record


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    git("init", "-q")
    Path("code.py").write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    return tmp_path


def test_a_clean_checkout_is_named_by_its_commit(repository: Path) -> None:
    # What the pipeline writes is no change of what went in.
    Path("dvc.lock").write_text("x")
    Path("data/models").mkdir(parents=True)
    Path("data/models/history.csv").write_text("x")
    assert code_tags() == {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": "false"}


def test_changed_and_new_files_mark_the_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("code.py").write_text("2\n")
    Path("new.py").write_text("3\n")
    monkeypatch.setenv("DVC_EXP_NAME", "prone-owl")
    tags = code_tags()
    assert tags["git_dirty"] == "true"
    assert tags["git_changed_files"] == "code.py, new.py"
    assert tags["dvc_experiment"] == "prone-owl"


def test_the_patch_makes_of_the_commit_what_lies_here(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("gone.py").write_text("0\n")
    Path(".gitignore").write_text("ignored\n")
    git("add", "-A")
    git("commit", "-qm", "two")
    Path("gone.py").unlink()
    Path("code.py").write_text("2\n")
    Path("staged.py").write_text("staged\n")
    git("add", "staged.py")
    binary = bytes(range(256))
    Path("ä ö").mkdir()
    Path("ä ö/new.bin").write_bytes(binary)
    for written in ("dvc.lock", "data/models/history.csv", "ignored"):
        Path(written).parent.mkdir(parents=True, exist_ok=True)
        Path(written).write_text("no input")
    before = git("status", "--porcelain"), sorted(Path(".git").rglob("*"))

    patch = changes().patch

    assert (git("status", "--porcelain"), sorted(Path(".git").rglob("*"))) == before
    other = tmp_path_factory.mktemp("other")
    git("worktree", "add", "-q", "--detach", str(other / "tree"))
    (other / "patch").write_bytes(patch)
    git("-C", str(other / "tree"), "apply", str(other / "patch"))
    files = {path.relative_to(other / "tree") for path in (other / "tree").rglob("*") if path.is_file()}
    assert files == {Path(name) for name in (".git", ".gitignore", "code.py", "staged.py", "ä ö/new.bin")}
    assert (other / "tree/ä ö/new.bin").read_bytes() == binary
    assert (other / "tree/code.py").read_text() == "2\n"


def test_no_change_no_patch(repository: Path) -> None:
    Path("dvc.lock").write_text("x")
    assert changes().patch == b""


def test_secrets_and_corpora_stay_out_of_the_patch(repository: Path) -> None:
    Path("code.py").write_text("2\n")
    for name in (".env", "my_credentials.json", "server.pem"):
        Path(name).write_text("hunter2")
    Path("corpus.txt").write_bytes(b"x" * (LARGEST_NEW_FILE + 1))
    found = changes()
    assert b"code.py" in found.patch
    assert b"hunter2" not in found.patch
    assert b"corpus.txt" not in found.patch
    digest = dvc_digest(Path("corpus.txt"))
    # Not even a hash of what may be a short secret.
    assert found.left_out == {".env": None, "my_credentials.json": None, "server.pem": None, "corpus.txt": digest}


def test_a_stage_is_recorded_as_dvc_locks_it(repository: Path) -> None:
    Path("params.yaml").write_text("train: {rate: 0.5}\nother: 1\n")
    Path("in").mkdir()
    Path("in/a").write_text("a")
    Path("dvc.yaml").write_text(
        "stages:\n  train:\n    foreach: [x]\n    do:\n      cmd: cp in/a out\n"
        "      deps: [in]\n      params: [train]\n      outs: [out]\n"
    )
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], check=True)
    subprocess.run([*dvc, "repro", "-q"], check=True)
    record = stage_record("train@x")
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["train@x"]
    assert record.deps == {dep["path"]: dep["md5"] for dep in locked["deps"]}
    assert record.outs == {out["path"]: out["md5"] for out in locked["outs"]}
    assert record.params == locked["params"]["params.yaml"] == {"train": {"rate": 0.5}}


def test_outside_of_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert code_tags() == {}
    assert changes().patch == b""


def test_machine_and_libraries_are_named() -> None:
    params = machine_params()
    assert params["env.torch"].startswith("2.")
    assert int(params["machine.threads"]) >= 1
    assert params["machine.processor"]


def test_digests_are_those_of_dvc(repository: Path) -> None:
    folder = Path("folder")
    for name in ("b.txt", "a/b.txt", "a-b.txt", "ä/ö.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], check=True)
    Path("file").write_text("x\r\n")
    subprocess.run([*dvc, "add", "-q", "folder", "file"], check=True, capture_output=True)
    for name in ("folder", "file"):
        recorded = yaml.safe_load(Path(f"{name}.dvc").read_text())["outs"][0]["md5"]
        assert dvc_digest(Path(name)) == recorded
