"""The champion over HTTP, served by `rnnlm serve` and by `mlflow models serve` as docs/serving.md says."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.serving import ask, champion_server, log_champion
from pipeline.cli import app
from pipeline.runtime.errors import InputError
from pipeline.runtime.pins import canonical
from pipeline.tracking.logged_model import REQUIREMENTS
from tests.conftest import PROJECT, SOAK, model_params, vocabulary_of
from tests.projects import empty_database
from tests.system.hostile_requests import SECONDS, WAYS, attackers
from tests.system.test_dependencies import MODULES, modules_imported_by
from tests.system.wrong_requests import WRONG, json_values, likely

JSON = {"Content-Type": "application/json"}
ANSWERED = {"200", "400", "404", "408", "413", "429", "503", "cut", "left"}  # a hostile client; never: no answer
MOST_MEGABYTES = 1500  # that the server may take, with libraries; a small model is 450
TEXTS = ["The cat sees the dog.", "the", "", "Nobody knows the dog.", "a cat, a dog", "THE CAT"]


@dataclass
class Served:
    url: str
    model: Path
    folder: Path
    environment: dict[str, str]

    def post(self, body: str | bytes, headers: dict[str, str] = JSON) -> requests.Response:
        data = body.encode() if isinstance(body, str) else body
        return requests.post(f"{self.url}/invocations", data=data, headers=headers, timeout=120)

    def ask(self, inputs: list[str], **params: Any) -> list[Any]:
        with requests.Session() as session:
            return ask(session, self.url, inputs, params)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A project with a champion, and where MLflow keeps that."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mlflow.db").write_bytes(empty_database())
    words = {"the": 9, "cat": 8, "dog": 7, "sees": 6, ".": 5, "function": 4, "returns": 3, "of": 2, "a": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "RNNLM_TRACKING", "DVC_ROOT"):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.chdir(PROJECT)
        yield folder, log_champion(folder, model_params(), vocabulary_of(words, None, 3))


@pytest.fixture(scope="module")
def served(project: tuple[Path, Path]) -> Iterator[Served]:
    folder, model = project
    shutil.copy(PROJECT / "tests/system/only_requirements.py", folder / "sitecustomize.py")
    environment = {"PYTHONPATH": str(folder), "MODEL": str(model), "REQUIREMENTS": str(model / "requirements.txt")}
    with champion_server(folder, command="mlflow", **environment) as url:
        yield Served(url, model, folder, environment)


@pytest.fixture(scope="module")
def limited(project: tuple[Path, Path]) -> Iterator[Served]:
    folder, model = project
    with champion_server(folder) as url:
        yield Served(url, model, folder, {})


@pytest.fixture(params=["limited", "served"])
def either(request: pytest.FixtureRequest) -> Served:
    """`rnnlm serve`, and `mlflow models serve`."""
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_the_server_had_nothing_but_the_requirements_and_no_pickle(served: Served) -> None:
    code = """
import pickle, pathlib
for name in ("torch", "mlflow", "nltk", "pytest", "dvc", "pipeline"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error)
try:
    pickle.loads(pickle.dumps(pathlib.Path))
except RuntimeError as error:
    print(error)
"""
    environment = os.environ | served.environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    *refused, pickled = done.stdout.splitlines()
    assert refused == [f"{name} is not among the requirements" for name in ("pytest", "dvc", "pipeline")]
    assert pickled.startswith("a pickle asks for")
    assert done.stderr == ""
    assert len(served.ask(TEXTS)) == len(TEXTS)


def test_requirements_are_what_the_served_code_imports() -> None:
    seen, waiting = set(), ["pipeline.inference.serving"]
    modules = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += modules_imported_by(MODULES[module])
            text = MODULES[module].read_text()
            modules |= set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    owners = packages_distributions()
    # mlflow comes as three distributions; the one with all of them has the server.
    needed = {canonical(owners[name][0]) for name in modules if name in owners and name not in ("pipeline", "mlflow")}
    assert needed | {"mlflow"} == set(REQUIREMENTS)


def test_no_file_of_the_model_is_a_pickle(served: Served) -> None:
    files = [path for path in served.model.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kinds = {path.suffix for path in files}
    assert kinds == {"", ".json", ".py", ".safetensors", ".tsv", ".txt", ".yaml"}
    for path in files:
        if path.suffix != ".safetensors":
            path.read_text(encoding="utf-8")


def check_refused(answer: requests.Response) -> str:
    assert 400 <= answer.status_code < 500, answer.text
    assert not re.search('Traceback|stack_trace|File \\\\?"', answer.text)
    content = answer.json()
    assert content.keys() == {"error_code", "message"}
    assert "\n" not in content["message"]
    assert len(content["message"]) < 300
    return content["message"]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_with_its_reason(either: Served, name: str) -> None:
    body, expected = WRONG[name]
    assert expected in check_refused(either.post(body))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/csv"},
        {"Content-Type": "application/vnd.apache.parquet"},
        {"Content-Type": "application/json; charset=latin-1"},
    ],
    ids=lambda headers: headers.get("Content-Type", "none"),
)
def test_what_is_not_sent_as_json_is_refused(either: Served, headers: dict[str, str]) -> None:
    assert "Content-Type: application/json" in check_refused(either.post('{"inputs": ["a"]}', headers))


def test_right_requests_are_answered(either: Served) -> None:
    assert either.post('{"inputs": []}').json() == {"predictions": []}
    utf8 = {"Content-Type": "Application/JSON; charset=UTF-8"}
    (row,) = either.post('{"inputs": ["naïve \\u0000 😀"]}'.encode(), utf8).json()["predictions"]
    assert row["tokens"] == 4
    assert either.ask(["the cat"], temperature=1) == either.ask(["the cat"])
    (row,) = either.ask(["the cat"], task="suggest", count=3)
    assert len(row["words"]) == len(row["probabilities"]) == 3
    (row,) = either.ask(["the cat"], task="generate", count=2, seed=2**63 - 1, temperature=1e-300)
    assert row["sentences"][0] == row["sentences"][1]
    assert row["sentences"][0].startswith("the cat")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=(likely | json_values).map(json.dumps) | st.text())
def test_any_request_is_answered_or_refused(either: Served, body: str) -> None:
    answer = either.post(body.encode("utf-8", "surrogatepass"))
    if answer.status_code == 200:
        texts = json.loads(body)["inputs"]
        assert all(isinstance(text, str) for text in texts)
        assert len(answer.json()["predictions"]) == len(texts)
    else:
        check_refused(answer)


CLIENTS = 8
REQUESTS = 125 if SOAK else 25  # of each client


@pytest.mark.slow
def test_many_requests_of_8_clients_get_the_answers_of_single_calls(either: Served) -> None:
    import mlflow

    alone: Any = mlflow.pyfunc.load_model(str(either.model))
    tasks = [{"task": "score"}, {"task": "suggest", "count": 3}, {"task": "generate", "count": 2, "max_length": 20}]
    expected = {
        (number, text): alone.predict([text], params=params).to_dict("records")[0]
        for number, params in enumerate(tasks)
        for text in TEXTS
    }

    def client(client: int) -> int:
        with requests.Session() as session:
            for request in range(REQUESTS):
                number = (client + request) % len(tasks)
                texts = [TEXTS[(client + request + shift) % len(TEXTS)] for shift in range(1 + request % 4)]
                for text, row in zip(texts, ask(session, either.url, texts, tasks[number]), strict=True):
                    for key, value in expected[number, text].items():
                        exact = key in ("tokens", "words", "sentences")
                        assert row[key] == (value if exact else pytest.approx(value, rel=1e-5)), (text, key)
        return REQUESTS

    with ThreadPoolExecutor(CLIENTS) as clients:
        assert list(clients.map(client, range(CLIENTS))) == [REQUESTS] * CLIENTS


def test_the_examples_of_the_documentation_work(either: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    text = (PROJECT / "docs" / "serving.md").read_text()
    examples = re.findall(r"```sh\n(curl .*?)```\n+```json\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 4  # each task, and a wrong request
    for command, printed in examples:
        words = shlex.split(command.replace("http://127.0.0.1:5001", either.url))
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert _shape(json.loads(done.stdout)) == _shape(json.loads(printed))


def _shape(value: Any) -> Any:
    """What does not depend on the model's weights."""
    if isinstance(value, dict):
        return {key: item if key in ("tokens", "message") else _shape(item) for key, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value)


def test_a_changed_model_is_not_served(
    project: tuple[Path, Path], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code included, though none of it would be run."""
    folder, model = project
    monkeypatch.chdir(folder)
    monkeypatch.setattr("pipeline.inference.server.serve", lambda *_: pytest.fail("it is served"))
    path = model / "code" / "pipeline" / "inference" / "serving.py"
    before = path.read_text()
    path.write_text(before + "import os\n")
    try:
        with pytest.raises(InputError) as refused:
            CliRunner().invoke(app, ["serve", "--port", str(free_port)], catch_exceptions=False)
    finally:
        path.write_text(before)
    assert re.fullmatch(
        r"run \w{8} \(.+\): MLflow's files of its model are not those that were logged", str(refused.value)
    )


@pytest.mark.slow
def test_serving_ends_on_a_signal_and_leaves_nothing(project: tuple[Path, Path], free_port: int) -> None:
    """Ctrl-C, SIGTERM and a closed terminal, while large requests are under way."""
    pipe = subprocess.PIPE
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if SOAK else (signal.SIGINT,):
        with TemporaryDirectory() as temporary:
            started = rnnlm_serve(project[0], free_port, TMPDIR=temporary)
            process = subprocess.Popen(**started, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
            assert process.stdout
            address = process.stdout.readline().removeprefix("Serving on ").strip()
            assert process.stdout.readline() == "Press Ctrl-C to stop.\n"
            assert requests.post(address, json={"inputs": ["the cat"]}, timeout=120).status_code == 200
            server = psutil.Process(process.pid)
            assert server.children(recursive=True) == []
            listening = [line.laddr for line in server.net_connections("all") if line.status == psutil.CONN_LISTEN]
            assert listening == [("127.0.0.1", free_port)]
            large = {"inputs": ["the cat"], "params": {"task": "generate", "count": 5, "max_length": 1000}}
            with ThreadPoolExecutor(3) as clients:
                asked = [clients.submit(requests.post, address, json=large, timeout=120) for _ in range(3)]
                process.send_signal(number)
                assert process.communicate()[1].startswith(f"{number.name}: ending\n")
                for answer in asked:
                    answer.exception()  # or an answer: it has ended in either case
            assert process.returncode in (0, 128 + number)
            assert list(Path(temporary).iterdir()) == []


@pytest.mark.slow
def test_hostile_requests_fill_no_memory_and_keep_nobody_waiting(limited: Served) -> None:
    """An hour in `make soak`, or RNNLM_SOAK_SECONDS; else until each of the ways was tried."""
    seconds = float(os.environ.get("RNNLM_SOAK_SECONDS", 3600 if SOAK else 0))
    waits: list[float] = []
    busy = 0
    sizes: list[int] = []
    url = limited.url
    with requests.Session() as session:
        port = int(url.rpartition(":")[2])
        # The session's own process: the server is the one that listens.
        (pid,) = {
            line.pid for line in psutil.net_connections("tcp") if line.laddr[:2] == ("127.0.0.1", port) and line.pid
        }
        server = psutil.Process(pid)
        expected = ask(session, url, TEXTS)
        begun = time.monotonic()
        with attackers(port, 8 if seconds else len(WAYS), seed=random.SystemRandom().randrange(2**32)) as seen:
            while time.monotonic() - begun < seconds or len({way for way, _ in seen}) < len(WAYS):
                asked = time.monotonic()
                # A connection that is kept is cut where this process has to wait long for the processor.
                answer = requests.post(f"{url}/invocations", json={"inputs": TEXTS}, timeout=SECONDS)
                if answer.status_code == 429:
                    busy += 1
                    time.sleep(int(answer.headers["Retry-After"]))
                    continue
                waits.append(time.monotonic() - asked)
                assert answer.status_code == 200, answer.text
                assert answer.json()["predictions"] == [
                    row | {"log_probability": pytest.approx(row["log_probability"], rel=1e-5)} for row in expected
                ]
                processes = [server, *server.children(recursive=True)]
                sizes.append(sum(process.memory_info().rss for process in processes))
                time.sleep(0.1)
        assert ask(session, url, TEXTS)
    print(f"{len(waits)} answered, {busy} told to come again; {sum(seen.values())} hostile requests:")
    for (way, status), count in sorted(seen.items()):
        print(f"{count:7} {way}: {status}")
    third = len(sizes) // 3
    parts = sizes[: third + 1], sizes[third : -third or None], sizes[-third - 1 :]
    first, middle, last = (max(part) / 2**20 for part in parts)
    waited = statistics.quantiles(waits, n=100)
    print(f"memory at most {first:.0f} MB, then {middle:.0f}, then {last:.0f}")
    print(f"waited {waited[49]:.2f} s, over {waited[98]:.2f} s in 1%, at most {max(waits):.2f} s")
    assert {status for _, status in seen} <= ANSWERED
    assert last < MOST_MEGABYTES
    if seconds:
        assert last < first * 1.2
        assert waited[98] < 2


def rnnlm_serve(folder: Path, port: int, **environment: str) -> dict[str, Any]:
    """How a process of `rnnlm serve` is started."""
    kept = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "RNNLM_TRACKING")}
    code = "from pipeline.cli import main; main()"
    return {
        "args": [sys.executable, "-c", code, "serve", "--port", str(port)],
        "cwd": folder,
        "env": kept | {"PYTHONPATH": str(PROJECT)} | environment,
        # Where the tests themselves run in the background, their children would ignore Ctrl-C.
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    }


@pytest.fixture
def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.mark.soak
def test_a_fresh_environment_of_the_models_own_requirements_serves_it(
    project: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, model = project
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", model / "requirements.txt"]
    subprocess.run(install, check=True, cwd=tmp_path)
    with champion_server(folder, str(python), command="mlflow") as url, requests.Session() as session:
        assert len(ask(session, url, TEXTS)) == len(TEXTS)
        assert len(ask(session, url, TEXTS, {"task": "suggest"})) == len(TEXTS)
        assert len(ask(session, url, TEXTS, {"task": "generate", "max_length": 9})) == len(TEXTS)
