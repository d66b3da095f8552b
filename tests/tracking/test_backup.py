"""`rnnlm backup` and `rnnlm restore`: what the store alone knows comes back, or one line says why not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import load_params
from pipeline.review.promotion import carry_out, decide
from pipeline.runtime.errors import InputError
from pipeline.tracking import backup, runs
from pipeline.tracking.logged_model import read_model
from pipeline.tracking.store import connect
from tests.conftest import PROJECT
from tests.projects import Project, empty_database
from tests.review.candidates import as_before, candidate, write_corpus

# Makes runs until it is killed: as a stage does, but with a new model each time.
WRITER = """
import sys
from pathlib import Path
from tests.projects import Project, empty_database
from pipeline.params import load_params
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking import runs
project = Project(Path.cwd(), load_params().cell("lstm"), Vocabulary.load(Path("data/vocabulary.tsv")))
for seed in range(2, 1000):
    project.train(seed)
    runs.log_evaluation(load_params(), "lstm")
    print(seed, flush=True)
"""


def rnnlm(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def go_to(folder: Path) -> None:
    """As a new process there: MLflow keeps the address of the store in the environment of the old one."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.chdir(folder)


def lose_store() -> None:
    Path("mlflow.db").unlink()
    shutil.rmtree("mlruns")


def names(folder: Path) -> set[str]:
    """All that lies in a folder, but for locks."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if ".rnnlm" not in path.parts}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "champions"


@pytest.fixture
def champions(project: Project, kept: Path) -> Project:
    """A project with three champions in a row."""

    def make() -> None:
        write_corpus()
        for number, power in enumerate((0.0, 0.5, 1.0), 1):
            candidate(project, power)
            carry_out(connect(), decide(connect(), f"{number}", 0.95, load_params()))

    as_before(project, kept, make)
    return project


@pytest.fixture(scope="module")
def made() -> list[bytes]:
    """The one backup that `one_run` makes, once it is made."""
    return []


@pytest.fixture
def one_run(project: Project, made: list[bytes]) -> Path:
    """The backup of a project with one run, whose store is lost."""
    path = Path("runs.tar").absolute()
    if not made:
        runs.log_evaluation(project.params, project.cell.name)
        rnnlm("backup", "runs.tar")
        made.append(path.read_bytes())
        Path("mlruns").rename("lost")
    path.write_bytes(made[0])
    Path("mlflow.db").unlink()
    return path


def afresh(*commands: tuple[str, ...]) -> str:
    """What commands print in a process that has never seen the store: this one keeps the old database open."""
    script = f"""
from typer.testing import CliRunner
from pipeline.cli import app
for command in {commands!r}:
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    print(done.stdout, end="")
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run([sys.executable, "-c", script], check=True, stdout=-1, text=True, env=environment).stdout


@pytest.mark.slow
def test_champions_the_way_back_and_old_runs_come_back(champions: Project) -> None:
    known, scores = rnnlm("runs", "--json"), score("models:/rnnlm@champion")
    told = rnnlm("backup", "runs.tar")
    assert told.startswith(f"{champions.folder}/runs.tar: 3 runs and 3 registered versions and ")
    lose_store()
    told = rnnlm("restore", "runs.tar")
    assert told.startswith(f"3 runs and 3 registered versions are back in {champions.folder}/mlflow.db, and ")
    assert afresh(("runs", "--json"), ("score", "sentences.txt", "--model", "models:/rnnlm@champion")) == known + scores
    back, again = "v2 is champion again, in place of v3\n", "v1 is champion again, in place of v2\n"
    told = afresh(("rollback",), ("promote",), ("rollback",), ("rollback",))
    assert told.startswith(f"{back}v3: promoted. On 200 test sentences")
    assert told.endswith(back + again)


def score(model: str) -> str:
    Path("sentences.txt").write_text("the cat sees the dog.\n")
    return rnnlm("score", "sentences.txt", "--model", model)


def test_in_another_checkout_everything_is_found_without_the_first(
    champions: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scores = score("models:/rnnlm/1")
    rnnlm("backup", "runs.tar")
    other = tmp_path_factory.mktemp("other ä place")
    for name in ("params.yaml", "dvc.yaml", "runs.tar"):
        shutil.copy(name, other)
    lose_store()
    go_to(other)
    told = rnnlm("restore", "runs.tar")
    assert f"files in {other}/mlruns, which were in {champions.folder}/mlruns" in told
    assert score("models:/rnnlm/1") == scores
    assert rnnlm("rollback") == "v2 is champion again, in place of v3\n"
    assert rnnlm("relocate").startswith("nothing to do")
    assert not (champions.folder / "mlruns").exists()


@pytest.mark.slow
def test_a_backup_is_whole_while_another_process_writes_runs(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs.log_evaluation(project.params, project.cell.name)
    command = [sys.executable, "-c", WRITER]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout
        try:
            made = []
            for number in range(3):
                writer.stdout.readline()
                rnnlm("backup", f"{number}.tar")
                made.append(len(connect().runs()))
            assert writer.poll() is None
        finally:
            writer.kill()
    assert made[0] < made[2]
    for number in range(3):
        folder = tmp_path_factory.mktemp("restored")
        for name in ("params.yaml", "dvc.yaml", f"{number}.tar"):
            shutil.copy(project.folder / name, folder)
        go_to(folder)
        rnnlm("restore", f"{number}.tar")
        store = connect()
        finished = [store.run(run.info.run_id) for run in store.runs() if "model_digest" in run.data.tags]
        assert len(finished) > number
        for run in finished:
            assert run.outputs
            read_model(store, f"models:/{run.outputs.model_outputs[0].model_id}", "it")
        for version in store.versions():
            read_model(store, f"models:/rnnlm/{version.version}", "it")


@pytest.mark.slow
def test_stopped_by_a_signal_it_leaves_nothing(project: Project) -> None:
    runs.log_evaluation(project.params, project.cell.name)
    for number in range(4000):
        Path(f"mlruns/{number}").touch()
    before = names(Path.cwd())
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "backup", "runs.tar"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while process.poll() is None and not list(Path.cwd().glob(".runs.tar.*.partial")):
            pass
        process.terminate()
        assert process.stderr
        assert "error: stopped by SIGTERM; no backup was written" in process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert names(Path.cwd()) == before


def packed(manifest: bytes | None = None, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of `members`, and of a manifest."""
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, content in (*members, *([(tarfile.TarInfo(backup.MANIFEST), manifest)] if manifest else [])):
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return out.getvalue()


def with_member(content: bytes, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", holes: bytes = b"") -> bytes:
    """A backup with one member more, before the manifest that knows it; `holes`: where a sparse one has none."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    if holes:
        words = {"major": "1", "minor": "0", "name": name, "realsize": "0"}
        info.pax_headers = {f"GNU.sparse.{key}": value for key, value in words.items()}
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        rest = [(member, tar.extractfile(member).read()) for member in tar]  # pyrefly: ignore[missing-attribute]
    known = json.loads(rest[-1][1])
    known["files"][name] = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bytes": 0}
    return packed(json.dumps(known).encode(), *rest[:-1], (info, holes))


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"not a backup\n" * 100,
    "cut in a member": lambda content: content[: len(content) // 2],
    "cut at a member's end": lambda content: content[: content.index(b"mlruns/")],
    "cut before the manifest": lambda content: content[: content.index(backup.MANIFEST.encode() + b"\0")],
    "a bit of the database": lambda content: flipped(content, 5000),
    "a bit of a name": lambda content: flipped(content, content.index(b"mlruns/") + 10),
    "a bit of the manifest": lambda content: flipped(content, content.index(b'"sha256": "') + 12),
    "another tar": lambda _: packed(None, (tarfile.TarInfo("readme.txt"), b"words")),
    "a manifest alone": lambda _: packed(b'{"rnnlm_backup": 1, "files": {}}'),
    "a manifest of lists": lambda _: packed(b"[1, 2]"),
    "of a later format": lambda content: content.replace(b'"rnnlm_backup": 1', b'"rnnlm_backup": 9'),
    "outside": lambda content: with_member(content, "../evil"),
    "outside after all": lambda content: with_member(content, "mlruns/../../evil"),
    "absolute": lambda content: with_member(content, "/tmp/evil"),
    "elsewhere": lambda content: with_member(content, "dvc.yaml"),
    "twice": lambda content: with_member(content, "mlflow.db"),
    "a link": lambda content: with_member(content, "mlruns/link", tarfile.SYMTYPE, "/etc"),
    "a hard link": lambda content: with_member(content, "mlruns/link", tarfile.LNKTYPE, "mlflow.db"),
    "holes": lambda content: with_member(content, "mlruns/holes", holes=b"0\n".ljust(512, b"\0")),
    "a device": lambda content: with_member(content, "mlruns/device", tarfile.CHRTYPE),
    "a pipe": lambda content: with_member(content, "mlruns/pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_file_that_is_not_as_it_was_written_nothing_is_restored(one_run: Path, damage: str) -> None:
    content = DAMAGES[damage](one_run.read_bytes())
    one_run.write_bytes(content)
    before = names(Path.cwd())
    with pytest.raises(InputError, match=r"is not a backup, or a damaged one: nothing was restored"):
        rnnlm("restore", str(one_run))
    assert names(Path.cwd()) == before


def test_with_one_member_more_that_may_be_there_it_is_restored(one_run: Path) -> None:
    """So the cases above are refused for what they are."""
    one_run.write_bytes(with_member(one_run.read_bytes(), "mlruns/a/file"))
    assert "1 runs" in rnnlm("restore", str(one_run))
    assert Path("mlruns/a/file").is_file()


def test_a_later_mlflow_is_named(one_run: Path) -> None:
    content = one_run.read_bytes()
    schema = json.loads(content[content.rindex(b'{\n "rnnlm_backup"') :].partition(b"\0")[0])["schema"].encode()
    place = content.rindex(schema)
    one_run.write_bytes(content[:place] + b"f" * len(schema) + content[place + len(schema) :])
    with pytest.raises(InputError, match=r"is of MLflow 3\.\S+, whose tables the MLflow here does not know"):
        rnnlm("restore", str(one_run))
    assert not Path("mlflow.db").exists()


def test_a_store_is_never_replaced_but_an_empty_one(one_run: Path, project: Project) -> None:
    Path("mlflow.db").write_bytes(empty_database())
    connect()
    Path("mlruns").mkdir(exist_ok=True)
    assert "1 runs and 1 registered versions are back" in rnnlm("restore", str(one_run))
    before = Path("mlflow.db").read_bytes()
    with pytest.raises(InputError, match=r"mlflow\.db is there and not empty; move it away"):
        rnnlm("restore", str(one_run))
    assert Path("mlflow.db").read_bytes() == before
    Path("mlflow.db").unlink()
    with pytest.raises(InputError, match="mlruns is there and not empty, which also a restore that was killed leaves"):
        rnnlm("restore", str(one_run))
    shutil.rmtree("mlruns")
    Path("mlruns").symlink_to(one_run.parent)
    with pytest.raises(InputError, match="mlruns is a link, in whose place a restore puts a folder"):
        rnnlm("restore", str(one_run))
    Path("mlruns").unlink()
    Path("mlflow.db").write_text("notes of mine")
    with pytest.raises(InputError, match=r"mlflow\.db is there and not empty"):
        rnnlm("restore", str(one_run))
    Path("mlflow.db").unlink()
    Path("mlflow.db-journal").write_text("of another database")  # SQLite would write it into the restored one
    with pytest.raises(InputError, match=r"mlflow\.db-journal is there"):
        rnnlm("restore", str(one_run))


def test_a_store_that_is_made_while_one_is_restored_is_not_replaced(
    one_run: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: Any) -> None:
        rewrite_addresses(*arguments)
        Path("mlflow.db").write_text("a run that has just begun")

    rewrite_addresses = backup.rewrite_addresses
    monkeypatch.setattr(backup, "rewrite_addresses", meanwhile)
    with pytest.raises(InputError, match=r"mlflow\.db is there and not empty"):
        rnnlm("restore", str(one_run))
    assert Path("mlflow.db").read_text() == "a run that has just begun"
    assert not Path("mlruns").exists()


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("http://me:word@127.0.0.1:9", "127.0.0.1:9 is a server, which nobody can restore from outside: where it runs"),
        (
            "postgresql://me:word@localhost/runs",
            "is not an SQLite file: use that database's own tool, such as `pg_dump`",
        ),
        ("sqlite:///:memory:", "is not an SQLite file"),
    ],
)
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_of_a_store_that_is_in_no_file_the_way_to_do_it_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, uri: str, line: str, command: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as refused:
        rnnlm(command, "runs.tar")
    assert line in str(refused.value)
    assert "word" not in str(refused.value)
    assert not Path("runs.tar").exists()


def test_no_file_is_overwritten_and_links_are_not_left_out_silently(project: Project) -> None:
    runs.log_evaluation(project.params, project.cell.name)
    Path("mine.csv").write_text("mine")
    with pytest.raises(InputError, match=r"mine\.csv is there already"):
        rnnlm("backup", "mine.csv")
    assert Path("mine.csv").read_text() == "mine"
    with pytest.raises(InputError, match="would be among the artifacts"):
        rnnlm("backup", "mlruns/runs.tar")
    Path("mlruns/link").symlink_to("/etc")
    before = names(Path.cwd())
    with pytest.raises(InputError, match="mlruns/link is a link, which a backup does not follow"):
        rnnlm("backup", "runs.tar")
    assert names(Path.cwd()) == before
    Path("mlruns/link").unlink()
    lose_store()
    with pytest.raises(InputError, match="there is nothing to back up"):
        rnnlm("backup", "runs.tar")


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [100, 2000], ids=["in the database", "in the artifacts"])
def test_on_a_full_disk_nothing_is_left(project: Project, blocks: int) -> None:
    runs.log_evaluation(project.params, project.cell.name)
    weights = Path("mlruns/large")
    weights.write_bytes(b"\0" * 4_000_000)
    before = names(Path.cwd())
    script = "from pipeline.cli import main; main()"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f {blocks} && exec {sys.executable} -c '{script}' backup runs.tar"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert names(Path.cwd()) == before
