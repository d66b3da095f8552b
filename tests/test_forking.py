"""Forked commands are as real ones are, and what cannot be forked is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.forking import LOADED, Server, python_arguments, read_at_start
from tests.system.conftest import FORKING, THREADS

# What a process can see of how it began, and a child of its own.
PROBE = """
import json, logging, os, signal, subprocess, sys
def seen():
    import pipeline
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    level = logging.getLogger("own").getEffectiveLevel()
    return [sys.argv, sys.path[:2], os.getcwd(), os.environ.get("MINE"), pipeline.NAME, handlers, level, __name__]
if __name__ == "__main__":
    print(json.dumps(seen()))
    sys.stdout.flush()
    if sys.argv[1:] == ["parent"]:
        import pipeline
        pipeline.NAME = "changed by the parent"
        logging.getLogger("own").setLevel(50)
        child = [sys.executable, "-m", "probe", "child"]
        print(subprocess.run(child, check=True, text=True, capture_output=True, env=os.environ | {"MINE": "2"}).stdout)
        script = "(read -r _ || kill -KILL 0) < /dev/fd/$1 > /dev/null 2>&1 &\\nshift\\nexec \\"$@\\"\\n"
        read, write = os.pipe()
        fails = ["sh", "-c", script, "5", str(read), sys.executable, "-m", "probe", "fails"]
        done = subprocess.run(fails, stderr=subprocess.PIPE, start_new_session=True, pass_fds=[read])
        print(done.returncode, done.stderr.splitlines()[-1])
    elif sys.argv[1:] == ["drops"]:
        sys.stdout = open(1, "w", closefd=False)
        print("heard all the same")
    elif sys.argv[1:] == ["fails"]:
        raise ValueError("as said")
    elif sys.argv[1:] == ["killed"]:
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit({"ends": 3, "says": "a last word"}.get(sys.argv[-1]))
"""


@pytest.fixture
def server() -> Server:
    """The one of other tests, as it takes seconds to begin."""
    return FORKING


@pytest.mark.slow
@pytest.mark.parametrize("how", ["parent", "drops", "fails", "killed", "ends", "says"])
def test_a_forked_command_is_as_a_real_one(server: Server, tmp_path: Path, how: str) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "pipeline.py").write_text("NAME = 'of the clone'\n")
    environment = dict(os.environ, **THREADS, PYTHONPATH=str(tmp_path), MINE="1")
    command = [sys.executable, "-m", "probe", how]
    real = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    forked = server.run(command, tmp_path, environment)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]  # tracebacks begin elsewhere


@pytest.mark.slow
def test_a_process_with_the_libraries_loaded_is_as_a_real_one(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "pipeline.py").write_text("NAME = 'of the clone'\n")
    environment = dict(os.environ, PYTHONPATH=str(tmp_path), MINE="1")
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {LOADED[-1]}"
    printed = []
    for python in ([sys.executable], [*LOADED[:-1], code]):
        command = [*python, "-m", "probe", "parent"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1]


def test_what_is_read_when_a_process_begins_is_left_to_real_ones(server: Server, tmp_path: Path) -> None:
    assert server.run([sys.executable, "-m", "probe"], tmp_path, os.environ | {"OMP_NUM_THREADS": "7"}) is None
    assert server.run(["git", "status"], tmp_path, os.environ) is None
    assert read_at_start({"PYTHONUNBUFFERED": "1", "PYTHONPATH": "here"}) == {}  # as `rnnlm retrain` says to dvc


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/bin/sh", "-c", "python -m stages.train lstm"], ["-m", "stages.train", "lstm"]),
        (["/bin/bash", "--norc", "-c", "python -m stages.pins"], ["-m", "stages.pins"]),
        (["/bin/sh", "-c", "python -m stages.pins > file"], None),
        (["/bin/sh", "-c", "ulimit -f 1; python -m stages.pins"], None),
        ([sys.executable, "-c", "pass"], None),
    ],
)
def test_only_plain_commands_are_forked(command: list[str], arguments: list[str] | None) -> None:
    assert python_arguments(command) == arguments
