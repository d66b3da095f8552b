"""One digest for each training run, whoever computes it: any machine that runs these tests is a witness."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml

from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.runtime.exactness import SAME_ARITHMETIC, SAME_RESULTS, results
from tests.conftest import PROJECT, model_params, saved_model
from tests.system.byte_cases import DIGESTS, FULL_SIZE, LARGE, SMALL, digest, parts, whole
from tests.system.conftest import Clone

COMMITTED = json.loads(DIGESTS.read_text())
MANY = {"MKL_DYNAMIC": "FALSE"}  # as many threads as are asked for, however few processors there are

Parts = dict[str, dict[str, str]]


def computed(threads: int, cases: list[str]) -> Parts:
    """What a process of its own computes, with another order of hashes for another number of threads."""
    command = [sys.executable, "-m", "tests.system.byte_cases", str(threads), *cases]
    unset = {key: value for key, value in os.environ.items() if key not in SAME_ARITHMETIC}
    done = subprocess.run(
        command, cwd=PROJECT, env=unset | MANY | {"PYTHONHASHSEED": str(threads)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: Parts, threads: int) -> None:
    """Compare with the committed digests; say of a difference what there is to know on this machine."""
    others = {name: digests for name, digests in found.items() if whole(digests) != COMMITTED[name]}
    if not others:
        return
    name, digests = next(iter(others.items()))
    alone = computed(1, [name])[name]
    part = next((part for part in digests if digests[part] != alone[part]), "nothing")
    operation = next((operation for operation, value in results() if value != SAME_RESULTS[operation]), "none")
    processor = dict(re.findall(r"^([^\t:]+)\t*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    pytest.fail(
        f"other bytes with {threads} threads: {', '.join(others)}; in {name}, first to differ from one thread: {part}; "
        f"first operation that differs from other machines: {operation}; "
        f"{processor.get('model name')}, flags {processor.get('flags')}"
    )


@pytest.fixture
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize("name", SMALL)
def test_a_small_training_run_has_one_digest(name: str) -> None:
    check({name: {part: digest(value) for part, value in parts(name)}}, 3)


SOAKED = [pytest.param(threads, marks=pytest.mark.soak) for threads in (1, 2, 3, 4, 16)]


@pytest.mark.parametrize("threads", [*SOAKED, pytest.param(7, marks=pytest.mark.slow)])
def test_training_runs_have_one_digest_for_any_number_of_threads(threads: int) -> None:
    check(computed(threads, [*SMALL, *LARGE]), threads)


@pytest.mark.soak
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_steps_of_full_size_have_one_digest_for_any_number_of_threads(threads: int) -> None:
    check(computed(threads, [*FULL_SIZE]), threads)


FAULTS = {
    "gru with sums in the order of threads": "gradient of layers.0.b",
    "rnn, two layers, tied, dropout with a seed of the process": "history",
    "gru with a set in the order of hashes": "sentences",
}


@pytest.mark.soak
def test_faults_are_seen() -> None:
    one, another = (computed(threads, [*FAULTS]) for threads in (1, 16))
    for case, first in FAULTS.items():
        assert next(part for part in one[case] if one[case][part] != another[case][part]) == first
        assert whole(one[case]) != COMMITTED[case.partition(" with ")[0]]


def test_a_mismatch_names_processor_and_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMITTED, "rnn", "another")
    monkeypatch.setitem(SAME_RESULTS, "torch's tanh", "another")
    monkeypatch.setattr("tests.system.test_same_bytes.computed", lambda *_: {"rnn": {"states": "a", "loss": "c"}})
    with pytest.raises(pytest.fail.Exception) as caught:
        check({"rnn": {"states": "a", "loss": "b"}}, 3)
    assert "other bytes with 3 threads: rnn; in rnn, first to differ from one thread: loss" in str(caught.value)
    assert "first operation that differs from other machines: torch's tanh" in str(caught.value)
    assert " avx2 " in str(caught.value)


@pytest.mark.soak
def test_the_default_pipeline_gives_the_locked_results_with_any_number_of_threads(tmp_path: Path) -> None:
    found = []
    for threads in (1, 4):
        clone = Clone(tmp_path / str(threads), tracking=False)
        clone.forks = False
        with patch.dict(os.environ, MANY | {"OMP_NUM_THREADS": str(threads)}):
            clone.dvc("repro", "--no-run-cache")
        found.append(clone.digests())
    assert found[0] == found[1]
    made, locked = (outputs(path / "dvc.lock") for path in (tmp_path / "4", PROJECT))
    assert made == locked


@pytest.mark.soak
def test_two_runs_from_scratch_give_the_same_bytes_with_mlflow_and_without_and_with_other_threads(
    built: Clone, plain: Clone
) -> None:
    assert plain.digests() == built.digests()


def outputs(lock: Path) -> dict[str, str]:
    """The hash of everything that came out, but for the digests of code, by path."""
    stages = yaml.safe_load(lock.read_text())["stages"].items()
    return {out["path"]: out["md5"] for name, stage in stages if name != "pins" for out in stage["outs"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    generator = torch.Generator().manual_seed(1)
    shape = model_params(hidden_size=140, cell="gru", embedding_dim=60)  # sums longer than a product takes at a time
    model = LanguageModel(shape, 8000, generator)
    save_model(saved_model(model), folder)
    return folder


def answers(*command: str, threads: int) -> str:
    unset = {key: value for key, value in os.environ.items() if key not in SAME_ARITHMETIC}
    environment = unset | MANY | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return done.stdout


COMMANDS = """
import sys
from contextlib import suppress
from pipeline.cli import main
for command in sys.argv[1:]:
    sys.argv = ["rnnlm", *command.split()]
    with suppress(SystemExit):
        main()
"""


@pytest.mark.slow
def test_scores_and_sentences_do_not_depend_on_threads(model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(" ".join(f"w{n * k % 8101}" for k in range(n % 23)) + "\n" for n in range(400)))
    score = f"score {lines} --model {model}"
    commands = [score, f"{score} --per-word --json", f"generate --count 100 --max-length 20 --model {model}"]
    one, four = (answers(sys.executable, "-c", COMMANDS, *commands, threads=threads) for threads in (1, 4))
    assert one.count("\n") >= 400 + 400 + 100
    assert one == four


# As `mlflow models serve` loads a model: in a process of its own making, which has NumPy and MLflow loaded already.
SERVED = """
import json, sys
import mlflow, numpy, pandas
from mlflow.pyfunc import load_model, save_model
save_model(sys.argv[2], python_model=sys.argv[3], artifacts={"model": sys.argv[1]}, pip_requirements=[])
served = load_model(sys.argv[2])
texts = [f"w{n} w{n + 1} w{7 * n}"[: n % 13] for n in range(300)]
for task in ("score", "suggest", "generate"):
    part = texts[:20] if task == "generate" else texts
    print(served.predict(part, {"task": task, "count": 3, "max_length": 20}).to_json(double_precision=15))
import torch
print(torch.get_num_threads(), file=sys.stderr)
"""


@pytest.mark.soak
def test_a_served_model_answers_the_same_with_any_number_of_threads(model: Path, tmp_path: Path) -> None:
    code = str(PROJECT / "pipeline" / "inference" / "serving.py")
    one, four = (
        answers(sys.executable, "-c", SERVED, str(model), str(tmp_path / str(threads)), code, threads=threads)
        for threads in (1, 4)
    )
    assert len(one.splitlines()) == 3
    assert one == four
