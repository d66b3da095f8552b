"""What DVC knows, and what it is asked for."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.params import read_params
from pipeline.provenance import dvc
from pipeline.provenance.dvc import dvc_digest, stage_record
from pipeline.runtime.errors import InputError
from tests.provenance.conftest import run
from tests.text.sources.liar import trickling


def test_a_stage_is_recorded_as_dvc_locks_it_and_stands_until_anything_changes(stages: Path) -> None:
    with pytest.raises(InputError, match=r"^dvc\.lock is missing; run `dvc repro` first$"):
        dvc.read_lock()
    run("repro")
    locked, params = dvc.read_lock(), read_params()
    content = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["train@x"]
    assert locked["train@x"] == stage_record("train@x")
    assert locked["train@x"].deps == {"out": content["deps"][0]["md5"]}
    assert locked["train@x"].outs == {"model": content["outs"][0]["md5"]}
    assert locked["train@x"].params == {"train": {"rate": 0.001}}
    assert locked["train@x"].stands(params)
    assert not locked["train@x"].stands(params | {"train": {"rate": 0.002}})
    Path("model").write_text("other")
    assert not locked["train@x"].stands(params)
    Path("model").unlink()
    assert not locked["train@x"].stands(params)
    Path("dvc.lock").write_text("stages: [1]\n")
    with pytest.raises(InputError, match=r"^dvc\.lock is damaged; restore it with `git checkout dvc\.lock`"):
        dvc.read_lock()


def test_of_a_watched_url_what_its_server_says_is_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deps = [{"path": "https://host/a", "etag": "e"}, {"path": "s3://b/c", "checksum": "c"}, {"path": "d"}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"download": {"deps": deps}}}))
    assert dvc.read_lock()["download"].deps == {"https://host/a": "e", "s3://b/c": "c", "d": None}


def test_digests_are_those_of_dvc_without_what_it_ignores(repository: Path) -> None:
    folder = Path("folder")
    for name in ("b.txt", "a/b.txt", "a-b.txt", "ä/ö.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    before = dvc_digest(folder)
    Path(".dvcignore").write_text("*.swp\n.rnnlm\n")
    (folder / "a/.b.txt.swp").write_text("of an editor")
    Path("file").write_text("x\r\n")
    assert dvc_digest(folder) == before
    cached = sorted(Path(".dvc").rglob("*"))
    assert dvc_digest(Path("file")) != before
    assert sorted(Path(".dvc").rglob("*")) == cached
    run("add", "folder", "file")
    for name in ("folder", "file"):
        recorded = yaml.safe_load(Path(f"{name}.dvc").read_text())["outs"][0]["md5"]
        assert dvc_digest(Path(name)) == recorded
        # A checkout inside of an ignored folder has an ignore file of its own.
        there = Path(".rnnlm/tree") / name
        subprocess.run(["mkdir", "-p", ".rnnlm/tree/.dvc"], check=True)
        subprocess.run(["cp", "-r", name, there], check=True)
        Path(".rnnlm/tree/.dvcignore").write_text("*.swp\n")
        assert dvc_digest(there) == recorded
    with pytest.raises(FileNotFoundError):
        dvc_digest(Path("nothing"))
    assert dvc.digest_if_there(Path("nothing")) is None


def test_bytes_come_back_by_their_hash_from_cache_or_remote(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("folder/a").mkdir(parents=True)
    Path("folder/a/b").write_text("b")
    run("add", "folder")
    digest = dvc_digest(Path("folder"))
    dvc.restore("folder", digest, Path("there"))
    assert Path("there/a/b").read_text() == "b"
    assert not dvc.has_remote()
    run("remote", "add", "-d", "storage", str(tmp_path_factory.mktemp("storage")))
    assert dvc.has_remote()
    dvc.push()
    subprocess.run(["rm", "-r", ".dvc/cache"], check=True)
    dvc.restore("folder", digest, Path("again"))
    assert dvc_digest(Path("again")) == digest
    with pytest.raises(InputError, match=r"^folder \(0{32}\) is neither in DVC's cache nor in its remote$"):
        dvc.restore("folder", "0" * 32, Path("never"))
    (cached,) = (path for path in Path(".dvc/cache").rglob("*") if path.is_file() and path.suffix != ".dir")
    cached.chmod(0o644)
    cached.write_text("rotten")
    with pytest.raises(InputError, match="somebody changed it, or the disk did"):
        dvc.restore("folder", digest, Path("rotten"))


def test_what_is_out_of_date_runs_and_what_ran_before_is_restored(
    stages: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dvc.out_of_date() == {dvc.FIRST: []}
    assert dvc.repro(False, {}) == dvc.Ran(("copy", "train@x"), ())
    assert "Running stage 'train@x':" in capfd.readouterr().out
    assert dvc.out_of_date() == {}
    Path("params.yaml").write_text("train: {rate: 2}\n")
    assert dvc.out_of_date() == {"parameters": ["train"]}
    assert dvc.repro(False, {}).ran == ("train@x",)
    Path("params.yaml").write_text("train: {rate: 1.0e-3}\n")
    Path("model").unlink()
    assert dvc.repro(False, {}) == dvc.Ran((), ("train@x",))


@pytest.mark.slow
def test_servers_that_send_a_byte_now_and_then_hold_nothing_up(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trickling("head") as server:
        stage = {"cmd": "cp a b", "deps": [f"{server.url}/corpus"]}
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}))
        run("remote", "add", "-d", "storage", server.url)
        monkeypatch.setenv("RNNLM_TRANSFER_SECONDS", "3")
        told = r"took longer than 3 seconds; is the remote up\? RNNLM_TRANSFER_SECONDS sets the limit$"
        with pytest.raises(InputError, match=rf"^dvc status {told}"):
            dvc.out_of_date()
        with pytest.raises(InputError, match=rf"^x \(0{{32}}\) is not in .* cannot be pulled: dvc pull {told}"):
            dvc.restore("x", "0" * 32, Path("x"))


def test_a_stage_that_fails_is_told_by_its_own_line(stages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in/a").write_text("bad")
    with pytest.raises(InputError, match=r"^dvc repro failed: error: bad text; ERROR: failed to reproduce 'train@x'"):
        dvc.repro(False, {})
    assert "error: bad text" in capfd.readouterr().out


def test_a_checkout_is_run_afresh_whatever_caches_have(stages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run("repro")
    Path("in/a").write_text("good enough")
    environment = dict(os.environ)
    dvc.repro_afresh(stages, ["train@x"], True, environment)
    assert Path("model").read_text() == "good"
    dvc.repro_afresh(stages, ["train@x"], False, environment)
    assert Path("model").read_text() == "good enough"
    assert "Running stage" not in capfd.readouterr().out
    Path("in/a").write_text("bad")
    with pytest.raises(InputError, match="a stage failed when the run was made again; its message stands above"):
        dvc.repro_afresh(stages, ["train@x"], False, environment)


def test_causes_are_named_and_not_what_follows_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no stage has run
    status = {
        "download": [{"changed deps": {"corpus": "modified", "https://host/a.csv?token=x": "update available"}}],
        "tokenize": [{"changed deps": {"data/raw/documents.parquet": "modified"}}, {"changed outs": {"a": "deleted"}}],
        "train@lstm": [{"changed deps": {"params.yaml": {"train.epochs": "modified"}}}],
        "encode": [{"changed deps": {"data/pins/encode.txt": "modified"}}],  # which has never run
        "pins": [{"changed deps": {"constraints.txt": "modified", "pipeline": "modified"}}, "changed command"],
        "new": [{"changed deps": {"params.yaml": "new"}}],
    }
    found = dvc.causes(status)
    assert found == {
        "data": ["corpus", "https://host/a.csv"],
        "parameters": ["train.epochs", "those of the new stage new"],
        "code": ["the code of encode", "pipeline", "the command of pins"],
        "libraries": ["constraints.txt"],
    }
    assert dvc.in_words(found).startswith("data: corpus, https://host/a.csv; parameters: train.epochs")
    assert dvc.in_words({"code": [str(number) for number in range(7)]}) == "code: 0, 1, 2, 3, 4 and 2 more"
    assert dvc.causes({"report": [{"changed outs": {"data/report": "deleted"}}]}) == {
        "results": ["missing or not those of dvc.lock"]
    }
    assert dvc.causes({}) == {}
