"""The Dockerfile and the devcontainer, as far as that shows without a container: they run what a person runs."""

import json
import re
import subprocess
from fnmatch import fnmatch

from tests.conftest import PROJECT

STEPS = re.findall(r"^([A-Z]+) (.+)$", (PROJECT / "Dockerfile").read_text(), re.M)


def test_the_image_has_the_python_of_the_makefile_and_runs_its_two_commands() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    (python,) = re.findall(r"^PYTHON \?= (python3\.\d+)$", makefile, re.M)
    steps = dict(STEPS)
    assert steps["FROM"].startswith(f"{python.replace('python', 'python:')}-")
    assert [text for step, text in STEPS if step == "RUN"][-1] == "make setup"
    assert json.loads(steps["CMD"]) == ["make", "repro"]
    commands = re.findall(r"^#     docker run --rm rnnlm *(make \w+)$", (PROJECT / "Dockerfile").read_text(), re.M)
    assert commands == ["make repro", "make test"]
    container = json.loads((PROJECT / ".devcontainer/devcontainer.json").read_text())
    # Both paths are relative to the file.
    folder = PROJECT / ".devcontainer"
    assert (folder / container["build"]["dockerfile"]).resolve() == PROJECT / "Dockerfile"
    assert (folder / container["build"]["context"]).resolve() == PROJECT
    assert container["postCreateCommand"] == "make setup"


def test_all_that_git_has_gets_into_the_image_and_nothing_that_is_made() -> None:
    ignored = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]

    def left_out(name: str) -> bool:
        return any(fnmatch(name, pattern) or fnmatch(name, f"{pattern}/*") for pattern in ignored)

    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert [name for name in (*done.stdout.splitlines(), ".git/HEAD") if left_out(name)] == []
    assert all(map(left_out, (".venv/ready", "mlflow.db", "mlruns/1/meta", ".dvc/cache/files", "tests/__pycache__/x")))
