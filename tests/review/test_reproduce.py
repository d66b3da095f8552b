"""What `rnnlm reproduce` says of files that came out; tests/system/test_versions.py makes runs again in earnest."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation.agreement import FEWEST_SEEDS
from pipeline.provenance.dvc import StageRecord, dvc_digest
from pipeline.provenance.environment import machine_params
from pipeline.review import reproduce
from pipeline.review.reproduce import STATUS, Reproduction, compared
from pipeline.runtime.errors import InputError, StoppedError
from pipeline.runtime.stopping import run_child
from pipeline.tracking.record import PATCH, Provenance
from stages import warm_start as stage

if TYPE_CHECKING:
    from mlflow.entities import Run

MODEL, METRICS, IDS = "data/models/lstm/model.safetensors", "data/evaluation/lstm/metrics.json", "data/encoded/train"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a run that was made again has left."""
    for name, content in ((MODEL, "weights"), (METRICS, json.dumps({"perplexity": 50.0})), (IDS, "ids")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def made_again(
    tree: Path,
    perplexity: float = 50.0,
    others: tuple[str, ...] = (),
    threads: str = "100000",
    measured: bool = True,
    then: Mapping[str, str] | None = None,
    scores: Sequence[bytes] = (),
) -> Reproduction:
    """A verdict on `tree`, of a run in which the files `others` had other bytes.

    `scores`: sentences.parquet in MLflow, of this run and then of others of its recipe.
    """

    def digest(path: str) -> str:
        return "0" * 32 if path in others else dvc_digest(tree / path)

    records = {
        "encode": StageRecord({}, {IDS: digest(IDS)}, {}),
        "train": StageRecord({IDS: digest(IDS)}, {MODEL: digest(MODEL)}, {}),
        "evaluate": StageRecord({MODEL: digest(MODEL)}, {METRICS: digest(METRICS)}, {}),
    }
    params = machine_params() | {"machine.processor": "another", "machine.threads": threads}
    params |= {"machine.precision": "exact"} | dict(then or {})
    metrics = {"test/perplexity": perplexity} if measured else {}
    runs = [
        SimpleNamespace(
            data=SimpleNamespace(params=params | {"train.seed": str(seed)}, metrics=metrics, tags={"cell": "lstm"}),
            info=SimpleNamespace(run_id=str(seed)),
        )
        for seed in range(max(len(scores), 1))
    ]
    store = SimpleNamespace(read_file=lambda run_id, _: scores[int(run_id)] if scores else None)
    with patch.object(reproduce, "runs_of_recipe", lambda *_: runs):
        return compared(cast(Any, store), cast("Run", runs[0]), records, tree)


@pytest.mark.parametrize("uri", ["https://mlflow.example.org", "http://127.0.0.1.example.org:5000", "postgresql:///db"])
def test_a_patch_from_elsewhere_runs_only_for_those_who_trust_it(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    laid_out = []

    @contextmanager
    def lay_out(run: object, provenance: object, patch: bytes) -> Iterator[Path]:
        laid_out.append(patch)
        raise InputError("laid out")
        yield Path()

    kept = {PATCH: b"a patch"}
    monkeypatch.setattr(reproduce, "read_artifact", lambda store, run, name: kept.get(name))
    monkeypatch.setattr(reproduce, "_complete_provenance", lambda *_: Provenance("1" * 40, {}, {}))
    monkeypatch.setattr(reproduce, "_laid_out", lay_out)
    run = SimpleNamespace(info=SimpleNamespace(run_id="0" * 32), data=SimpleNamespace(tags={"cell": "lstm"}))
    asked = cast(Any, (None, run))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=r"^run 0{32} changes code by a patch .*; read .* and give --trust to run it$"):
        reproduce.reproduce(*asked)
    assert laid_out == []
    with pytest.raises(InputError, match="laid out"):
        reproduce.reproduce(*asked, trust=True)
    kept.clear()  # a commit is in this clone already
    with pytest.raises(InputError, match="laid out"):
        reproduce.reproduce(*asked)
    assert laid_out == [b"a patch", None]


def test_what_a_patch_lacks_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record(left_out: dict[str, str | None]) -> Provenance:
        train = StageRecord({}, {MODEL: "1" * 32}, {})
        return Provenance("1" * 40, left_out, {"train": train})

    monkeypatch.setattr(reproduce, "read_artifact", lambda *_: None)
    run = SimpleNamespace(info=SimpleNamespace(run_id="id"), data=SimpleNamespace(tags={"cell": "lstm"}))
    told = []
    for left_out in ({}, {"corpus.csv": "2" * 32, ".env": None}):
        monkeypatch.setattr(reproduce, "read_provenance", lambda *_, left_out=left_out: record(left_out))
        with pytest.raises(InputError, match="is not in this clone"):
            reproduce.reproduce(*cast(Any, (None, run)))
        told.append(capsys.readouterr().err)
    lack = "warning: the changes recorded of run id lack what was large or may be secret: corpus.csv, .env\n"
    assert told == ["", lack]


def test_a_run_that_began_with_a_model_is_not_made_from_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "read_artifact", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    Path("warm_start.json").write_text("{}")
    stage.warm_start()  # as it is without a model
    run = SimpleNamespace(info=SimpleNamespace(run_id="id"), data=SimpleNamespace(tags={"cell": "lstm"}))

    def message(digest: str | None) -> str:
        """How far making it again comes, where nobody knows its text stages."""
        train = StageRecord({"data/warm_start": digest}, {MODEL: "1" * 32}, {})
        records = Provenance("c" * 40, {}, {"train": train, "download": StageRecord({}, {}, {})})
        monkeypatch.setattr(reproduce, "read_provenance", lambda *_: records)
        with pytest.raises(InputError) as caught:
            reproduce.reproduce(SimpleNamespace(), cast("Run", run), "download")  # pyrefly: ignore[bad-argument-type]
        return str(caught.value)

    for digest in (None, dvc_digest(stage.WARM_START)):
        assert "is not in this clone" in message(digest)
    (stage.WARM_START / "config.json").write_text("{}")
    assert message(dvc_digest(stage.WARM_START)) == (
        "run id began with the weights of another model, which no text makes; leave out `--from download`"
    )


def test_a_signal_takes_the_stage_and_the_worktree_along_and_a_second_one_has_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path("params.yaml").write_text("train: {}\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    record = Provenance(git("rev-parse", "HEAD"), {}, {"train": StageRecord({}, {MODEL: "1" * 32}, {})})
    monkeypatch.setattr(reproduce, "read_provenance", lambda *_: record)
    monkeypatch.setattr(reproduce, "read_artifact", lambda *_: None)
    data = SimpleNamespace(tags={"cell": "lstm"}, params={})
    run = cast("Run", SimpleNamespace(info=SimpleNamespace(run_id="id"), data=data))

    def again() -> None:
        reproduce.reproduce(SimpleNamespace(), run)  # pyrefly: ignore[bad-argument-type]

    def repro(tree: Path, *_: object) -> None:
        assert (tree / "params.yaml").exists()
        with pytest.raises(InputError, match=r"^run id is already being rebuilt in this folder; wait until"):
            again()
        assert (tree / "params.yaml").exists()
        run_child(["sh", "-c", f"echo $$ > {tmp_path}/pid; kill -HUP $PPID; sleep 1000"])

    monkeypatch.setattr(reproduce, "repro_afresh", repro)
    with pytest.raises(StoppedError, match=r"^stopped by SIGHUP; "):
        again()
    assert not psutil.pid_exists(int(Path("pid").read_text()))
    assert [path.name for path in reproduce.REPRODUCTIONS.iterdir() if path.is_dir()] == []
    assert len(git("worktree", "list").splitlines()) == 1


def test_code_of_the_commit_is_compared_by_what_it_does_and_never_brought_from_here(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    (tree / "params.yaml").write_text("train: {}\n")
    pins, corpus = "data/pins/train.txt", "data/pins/corpus.txt"
    for folder, digest in ((tree, "b"), (Path(), "a")):
        (folder / pins).parent.mkdir(parents=True)
        (folder / pins).write_text(f"torch==2\npipeline/model/cells.py {digest}\n")
        (folder / corpus).write_text(digest)
    then = StageRecord({pins: dvc_digest(Path(pins))}, {}, {}, {"torch": "2", "pipeline/model/cells.py": "a"})
    found = ("train", ["pipeline/model/cells.py is not what the run used"])
    assert reproduce._other_inputs(tree, {"train": then}) == found
    unknown = dataclasses.replace(then, code={})
    assert reproduce._other_inputs(tree, {"train": unknown}) == ("train", [f"{pins} is not what the run used"])
    download = StageRecord({corpus: dvc_digest(Path(corpus))}, {}, {})
    assert reproduce._other_inputs(tree, {"x": download}) == ("x", [f"{corpus} is not what the run read"])
    (tree / pins).write_bytes(Path(pins).read_bytes())
    assert reproduce._other_inputs(tree, {"train": then}) == (None, [])


def test_equal_bytes_are_identical_whatever_the_machine(tree: Path) -> None:
    assert made_again(tree) == Reproduction("identical")
    assert STATUS["identical"] == 0


@pytest.fixture
def scored(tree: Path) -> list[bytes]:
    """The scores of five seeds; the model that was made again, in `tree`, scores as the first does, rounded."""
    generator = np.random.default_rng(0)
    tokens, path = generator.integers(3, 40, 500), tree / "data/evaluation/lstm/sentences.parquet"
    common = generator.gamma(20, 0.2, 500) * tokens
    nats = [common + generator.normal(0, 1, 500) * tokens**0.5 for _ in range(FEWEST_SEEDS)]
    contents = []
    for values in [*nats, nats[0] + generator.normal(0, 0.1, 500)]:
        pq.write_table(pa.table({"nats": values, "tokens": tokens, "tokens all": tokens, "nats all": values}), path)
        contents.append(path.read_bytes())
    return contents[:-1]


FP32 = {"machine.precision": "fp32"}


def test_where_bytes_may_differ_the_same_model_is_equivalent_and_the_machine_is_named(
    tree: Path, scored: list[bytes]
) -> None:
    found = made_again(tree, 49.1, (MODEL, METRICS), then=FP32, scores=scored)
    assert (found.verdict, found.stage) == ("equivalent", "train")
    assert found.perplexity == (49.1, 50.0)
    assert set(found.machine) == {"machine.processor", "machine.threads"}
    assert found.machine["machine.processor"][0] == "another"
    told = found.lines()
    assert told[0] == "equivalent: test perplexity 49.10 then, 50.00 now"
    assert told[1:3] == [f"{MODEL} has other bytes", f"{METRICS} has other bytes"]
    assert re.match(r"scores of sentences correlate to 0\.9\d+, those of 5 seeds of the recipe to 0\.\d+ to", told[4])
    assert any(line.startswith("machine.threads: 100000 then, ") for line in told)
    assert STATUS["equivalent"] == 10


def test_another_seed_is_different_whatever_its_perplexity(tree: Path, scored: list[bytes]) -> None:
    first, *others = scored
    again = [others[0], first, *others[1:]]  # what was made again scores as the second seed does
    found = made_again(tree, 50.0, (MODEL, METRICS), then=FP32, scores=again)
    assert (found.verdict, found.stage) == ("different", "train")
    assert found.lines()[0] == "different, from stage train on: test perplexity 50.00 then, 50.00 now"
    assert STATUS["different"] == 11


def test_other_bytes_are_different_where_they_should_be_the_same(tree: Path, scored: list[bytes]) -> None:
    found = made_again(tree, 50.0, (MODEL, METRICS), scores=scored)
    assert (found.verdict, found.broken, found.agreement) == ("different", [], None)


def test_without_scores_of_enough_seeds_nobody_can_tell_which_is_no_proof(tree: Path, scored: list[bytes]) -> None:
    for scores, told in (
        (scored[:-1], "MLflow has scores of 4 of its recipe's seeds, and 5 are"),
        ((), "no scores of"),
    ):
        found = made_again(tree, 50.0, (MODEL,), then=FP32, scores=scores)
        assert found.verdict == "different"
        assert told in found.lines()[3]


def test_what_broke_the_bytes_is_named(tree: Path, scored: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_again(tree, 50.0, (MODEL,)).broken == []
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    found = made_again(tree, 50.0, (MODEL,), then={"machine.precision": "bf16", "machine.exact": "no AVX2"})
    assert found.broken == [
        "machine.precision was bf16, and only exact gives the same bytes everywhere",
        "then, no AVX2",
        "now, MKL_CBWR is COMPATIBLE, not AVX2,STRICT; unset it",
    ]
    assert found.lines()[2:5] == found.broken
    assert "machine.exact" not in found.machine


def test_text_stages_give_the_same_bytes_everywhere_so_others_are_different(tree: Path) -> None:
    found = made_again(tree, 50.0, (IDS, MODEL), then=FP32)
    assert (found.verdict, found.stage, found.agreement) == ("different", "encode", None)


def test_other_bytes_of_a_model_that_was_never_evaluated_are_different(tree: Path) -> None:
    assert made_again(tree, others=(MODEL,), measured=False).lines()[0] == "different, from stage train on"
