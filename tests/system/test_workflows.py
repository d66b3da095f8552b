"""The workflow files: valid, safe, and what they run works."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.training.checkpoint import CHECKPOINTS, SECONDS_VARIABLE
from pipeline.training.trained import TRAINED
from tests.conftest import PROJECT
from tests.forking import BIN, LOADED
from tests.system.conftest import Site, TrackingServer, tracking_server, write_corpus

GITHUB = sorted((PROJECT / ".github/workflows").glob("*.yml"))
GITLAB = PROJECT / ".gitlab-ci.yml"
GITHUB_SOAK = PROJECT / ".github/workflows/soak.yml"
SOAK_USES = r"pytest\.mark\.soak\b|import .*\bSOAK\b"
RUNS = re.compile(
    r"(exec )?make [\w-]+( ALL=1| LIMIT=\d+m)?|touch \.venv/ready|gh auth setup-git|\.ci/comment \S+"
)  # all that a step may run

# What GitHub asks of the gh that its machines have; this one writes down what it is asked.
GH = """#!{python}
import os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(arguments) + "\\n")
    if "--body-file" in arguments:
        log.write(open(arguments[arguments.index("--body-file") + 1]).read())
if arguments[0] == "api":
    print(7)
if arguments[:2] == ["auth", "setup-git"]:
    assert os.environ["GH_TOKEN"] == "token"
"""


def load(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(name: str, job: str) -> list[dict[str, Any]]:
    return load(PROJECT / f".github/workflows/{name}.yml")["jobs"][job]["steps"]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("schema", "files"), [("vendor.github-workflows", GITHUB), ("vendor.gitlab-ci", [GITLAB])], ids=["github", "gitlab"]
)
def test_they_fit_the_schemas(schema: str, files: list[Path]) -> None:
    command = ["check-jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_zizmor_finds_nothing() -> None:
    done = subprocess.run(["zizmor", "--offline", "--quiet", *map(str, GITHUB)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.stem)
def test_actions_are_pinned_rights_are_few_and_steps_only_call_make(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert not step.get("uses") or re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", step["uses"])
            if "run" in step:
                assert RUNS.fullmatch(step["run"])
                called = step["run"].removeprefix("exec ").split()
                assert called[0] != "make" or called[1] in targets()
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


def test_the_job_of_ci_is_what_ci_run_runs() -> None:
    """So whoever runs .ci/run has run the job's steps, but for those of the cache."""
    lines = re.findall(r"^make .+", (PROJECT / ".ci/run").read_text(), re.MULTILINE)
    called = [step["run"] for step in steps("ci", "ci") if "run" in step]
    assert lines == ["make test ALL=1"]
    assert called == ["touch .venv/ready", "make setup", *lines]  # `make test` calls it
    assert steps("ci", "ci")[-1]["env"] == {"RNNLM_BROWSER": "1"}  # which tests/conftest.py reads


def test_the_soak_tests_run_once_a_week() -> None:
    assert [step["run"] for step in steps("soak", "soak") if "run" in step][1:] == ["make setup", "make soak"]
    ((minute, hour, *days),) = (when["cron"].split() for when in load(GITHUB_SOAK)["on"]["schedule"])
    assert minute.isdecimal()
    assert hour.isdecimal()
    assert days == ["*", "*", "0"]


def test_every_file_with_a_soak_test_is_run_by_make_soak() -> None:
    printed = subprocess.run(["make", "-n", "soak"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    (command,) = (line for line in printed.splitlines() if "RNNLM_SOAK=1" in line)
    marked = [path for path in (PROJECT / "tests").rglob("test_*.py") if re.search(SOAK_USES, path.read_text())]
    assert {path.relative_to(PROJECT).as_posix() for path in marked} == set(re.findall(r"tests/\S+", command))


def test_what_a_schedule_of_gitlab_runs_is_one_job() -> None:
    rules = {name: load(GITLAB)[name]["rules"] for name in ("soak", "retrain")}
    assert rules["soak"] == [{"if": rules["retrain"][0]["if"]}]
    assert rules["retrain"][0]["when"] == "never"
    assert "schedule" in rules["retrain"][0]["if"]


def test_gitlab_calls_targets_that_are_there() -> None:
    content = load(GITLAB)
    lines = [line for name in ("ci", "soak", "retrain") for line in content[name]["script"]] + content["default"][
        "before_script"
    ]
    called = {line.split()[1] for line in lines if line.startswith("make ")}
    assert called == {"setup", "test", "soak", "retrain"}
    assert called <= targets()


def test_what_a_job_leaves_unfinished_is_saved_whatever_becomes_of_it() -> None:
    """Finished stages and the checkpoints of the others, in time: after a job's limit nothing is saved."""
    work = {".dvc/cache", CHECKPOINTS.as_posix(), TRAINED.as_posix()}
    job = load(PROJECT / ".github/workflows/retrain.yml")["jobs"]["retrain"]
    names = [str(step.get("uses", step.get("id"))).partition("@")[0] for step in job["steps"]]
    restored, saved = (job["steps"][names.index(f"actions/cache/{verb}")] for verb in ("restore", "save"))
    assert set(restored["with"]["path"].split()) == set(saved["with"]["path"].split()) == work
    assert restored["with"]["key"] == saved["with"]["key"]
    assert "run_attempt" in saved["with"]["key"]  # a key is written once
    assert saved["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert saved["if"] == "always()"
    assert names.index("actions/cache/restore") < names.index("retrain") < names.index("actions/cache/save")
    assert minutes_of(job["steps"][names.index("retrain")]["run"]) < job["timeout-minutes"]

    job = load(GITLAB)["retrain"]
    (cache,) = (cache for cache in job["cache"] if set(cache["paths"]) & work)
    assert (set(cache["paths"]), cache["when"]) == (work, "always")
    assert minutes_of("\n".join(job["script"])) < int(job["timeout"].removesuffix("h")) * 60


def minutes_of(script: str) -> int:
    """The limit that a job sets its retraining."""
    (found,) = re.findall(r"make retrain LIMIT=(\d+)m", script)
    return int(found)


def test_its_own_commits_trigger_nothing() -> None:
    """They go to another branch, and should that be merged: they are results, which no filter names."""
    filters = load(PROJECT / ".github/workflows/retrain.yml")["on"]["push"]
    assert filters["branches"] == ["main"]
    rules = load(GITLAB)["retrain"]["rules"]
    watched = [*filters["paths"], *(path for rule in rules for path in rule.get("changes", []))]
    assert not [path for path in watched if path.startswith(("data", "dvc.lock", "*"))]
    # And all that a stage reads and git tracks is watched, but for what retraining itself writes.
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values()
    deps = {dep for stage in stages for dep in stage.get("do", stage)["deps"] if not dep.startswith(("data/", "$"))}
    for dep in [*deps - {"warm_start.json"}, "dvc.yaml", "params.yaml"]:
        assert any(dep == path or f"{dep}/".startswith(path.removesuffix("**")) for path in filters["paths"]), dep


class Runner:
    """As much of GitHub's machine as the job needs: expressions, outputs, summaries, `bash -e`.

    Actions are played by hand: the checkout is a clone, the cache a folder, and the environment is this one, under the
    names that make expects (`.venv/bin`), so that `make setup` finds nothing to install.

    Attributes:
        failed: whether a step has failed, after which only those with `always()` run.
        said: what all steps have printed.
    """

    def __init__(
        self, site: Site, folder: Path, event: str, secrets: dict[str, str], end_at: str | None = None
    ) -> None:
        """Args:
        end_at: a line's beginning; when a step prints it, the job is ended as GitHub ends one.
        """
        self.end_at, self.failed, self.said = end_at, False, ""
        self.site, self.folder, self.event, self.secrets = site, folder, event, secrets
        self.workspace = folder / "workspace"
        self.outputs: dict[str, dict[str, str]] = {}
        self.summary = self.sha = ""
        self.uploaded: Path | None = None
        folder.mkdir()
        (folder / "bin").mkdir()
        (folder / "home").mkdir()
        self.gh_log = folder / "gh.log"
        gh = folder / "bin" / "gh"
        gh.write_text(GH.format(python=sys.executable, log=str(self.gh_log)))
        gh.chmod(0o755)

    def check_out(self) -> None:
        self._git("clone", "-q", "--branch", "main", str(self.site.bare), str(self.workspace))
        self.sha = self._git("-C", str(self.workspace), "rev-parse", "HEAD").strip()
        tools = self.workspace / ".venv" / "bin"
        tools.mkdir(parents=True)
        # The workspace's own code comes first, as it does where the environment was made there.
        python = f'exec {shlex.quote(sys.executable)} "$@"'
        rnnlm = f'PYTHONPATH="$PWD" exec {shlex.join([*LOADED, str(BIN / "rnnlm")])} "$@"'
        for name, command in (("python", python), ("rnnlm", rnnlm)):
            (tools / name).write_text(f"#!/bin/sh\n{command}\n")
            (tools / name).chmod(0o755)
        (tools.parent / "ready").touch()

    def environment(self) -> dict[str, str]:
        path = [
            str(self.folder / "bin"),
            *(part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part),
        ]
        kept = {"PATH": os.pathsep.join(path), "HOME": str(self.folder / "home"), "CI": "true"}
        kept[SECONDS_VARIABLE] = "0.1"  # what takes seconds here would take hours
        return kept | {name: value for name, value in os.environ.items() if name in ("LANG", "TMPDIR")}

    def run_job(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            condition = step.get("if", "true")
            if not self._holds(condition) or (self.failed and "always()" not in condition):
                continue
            if "run" in step:
                self._run(step)
            elif step["uses"].startswith("actions/checkout"):
                self.check_out()
            elif step["uses"].startswith("actions/upload-artifact"):
                self.uploaded = self.workspace / step["with"]["path"]
            elif step["uses"].startswith("actions/cache/"):
                folders = (self.site.folder / "cache", self.workspace)
                here, there = folders if "/restore" in step["uses"] else folders[::-1]
                for path in step["with"]["path"].split():
                    if (here / path).is_dir():
                        shutil.copytree(here / path, there / path, dirs_exist_ok=True)

    def bash(self, script: str, environment: dict[str, str]) -> str:
        path = self.folder / "step.sh"
        path.write_text(script)
        process = subprocess.Popen(
            ["bash", "-e", str(path)],
            cwd=self.workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines, ended = [], False
        for line in process.stdout or ():
            lines.append(line)
            if self.end_at and line.startswith(self.end_at) and not self.failed:
                self.failed = ended = True
                end_as_github_does(process)
        said = "".join(lines)
        self.said += said
        status = process.wait()
        assert (status != 0) == ended, f"{script}\n{said}"
        return said

    def _run(self, step: dict[str, Any]) -> None:
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.write_text("")
        environment = self.environment() | {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": self.event,
            "GITHUB_REPOSITORY": "me/rnnlm",
            "GITHUB_SHA": self.sha,
            **{name: str(path) for name, path in files.items()},
            **{name: self._evaluate(value) for name, value in step.get("env", {}).items()},
        }
        self.bash(step["run"], environment)
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        self.outputs[step.get("id", "")] = dict(line.split("=", 1) for line in lines)
        self.summary += files["GITHUB_STEP_SUMMARY"].read_text()

    def _evaluate(self, value: str) -> str:
        inside = re.fullmatch(r"\$\{\{ (.+) \}\}", value)
        return value if inside is None else self._name(inside[1])

    def _name(self, name: str) -> str:
        if name == "github.token":
            return "token"
        kind, key = name.split(".", 1)
        if kind == "secrets":
            return self.secrets.get(key, "")
        output = re.fullmatch(r"steps\.(\w+)\.outputs\.(\S+)", name)
        assert output, name
        return self.outputs.get(output[1], {}).get(output[2], "")

    def _holds(self, condition: str) -> bool:
        """`a == 'b'` and `a != 'b'`, with `&&` between; every step before has succeeded."""
        for term in condition.split(" && "):
            compared = re.fullmatch(r"(\S+) (==|!=) '(.*)'", term)
            if compared is None:
                assert term in ("true", "always()"), term
            elif (self._name(compared[1]) == compared[3]) != (compared[2] == "=="):
                return False
        return True

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def end_as_github_does(process: subprocess.Popen[str]) -> None:
    """Tell only what the runner has started: Ctrl-C, after 7.5 s SIGTERM, after 2.5 s more the end of all."""
    for number, seconds in ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5)):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.soak
def test_a_training_run_longer_than_a_job_ends_over_several(tmp_path: Path) -> None:
    """Each job has a machine of its own: the next one has git, DVC's remote, MLflow's server and the cache."""
    site = Site(tmp_path, warm_start=False)
    write_corpus(site.corpus, 150)
    site.work.change(train__epochs=60, train__patience=60)
    site.trigger("a long training run")
    (tmp_path / "mlflow").mkdir()
    with tracking_server(tmp_path / "mlflow") as server:
        secrets = {"MLFLOW_TRACKING_URI": server.url}
        job = steps("retrain", "retrain")
        first = Runner(site, tmp_path / "first", "push", secrets, end_at="epoch 2 of")
        first.run_job(job)
        assert first.failed
        assert "dvc push: what `encode` needs and makes" in first.said
        assert list((site.folder / "cache" / CHECKPOINTS).rglob("*.safetensors"))
        shutil.rmtree(first.workspace)

        second = Runner(site, tmp_path / "second", "schedule", secrets)
        second.run_job(job)
        assert re.search(r"resuming from a checkpoint at step [1-9]", second.said)
        assert second.said.count("Running stage 'train@lstm'") == 1
        assert "Running stage 'tokenize'" not in second.said
        assert second.outputs["retrain"]["verdict"] == "promoted"
        site.check()


@contextmanager
def after_githubs_job(folder: Path) -> Iterator[tuple[Site, TrackingServer]]:
    """A site whose first model GitHub's job has trained and promoted, after a push."""
    site = Site(folder, warm_start=True)
    write_corpus(site.corpus, 150)
    (folder / "mlflow").mkdir()
    with tracking_server(folder / "mlflow") as server:
        github = Runner(site, folder / "github", "push", {"MLFLOW_TRACKING_URI": server.url})
        github.run_job(steps("retrain", "retrain"))
        assert github.outputs["retrain"]["verdict"] == "promoted"
        assert github.outputs["retrain"]["champion"] == "1"
        assert "warm start: from random weights: there is no champion yet" in github.said
        assert github.summary.startswith("# Retraining: v1 promoted")
        assert "](learning_curves.png)" not in github.summary
        sha = site.work.git("rev-parse", "HEAD").strip()
        called = github.gh_log.read_text()
        assert f"api repos/me/rnnlm/commits/{sha}/pulls" in called
        assert f"pr comment 7 --body-file .rnnlm/retrain/summary.md\n{github.summary}" in called
        assert github.uploaded is not None
        names = {path.name for path in github.uploaded.iterdir()}
        assert {"report.md", "retrain.json", "learning_curves.png"} <= names
        site.check()
        tip = site.work.git("ls-remote", "--heads", "origin", "retrained").split()[0]
        assert json.loads((github.uploaded / "retrain.json").read_text())["after"] == tip
        yield site, server


@pytest.mark.slow
def test_the_steps_of_githubs_retraining_job_work(tmp_path: Path) -> None:
    with after_githubs_job(tmp_path):
        pass


def gitlabs_script() -> str:
    content = load(GITLAB)
    return "\n".join([*content["default"]["before_script"], *content["retrain"]["script"]])


def test_gitlabs_script_retrains_where_it_may_push(tmp_path: Path) -> None:
    """Its lines, with a command in place of ours that says how it was called, and what git would do then."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    rnnlm = tmp_path / ".venv/bin/rnnlm"
    rnnlm.parent.mkdir(parents=True)
    (tmp_path / ".venv/ready").touch()
    asked = "printf 'protocol=https\\nhost=example.org\\n\\n' | git credential fill"
    rnnlm.write_text(f'#!/bin/sh\necho "$@"; git remote get-url origin; {asked}\n')
    rnnlm.chmod(0o755)
    variables = {"CI_PROJECT_URL": "https://example.org/me/rnnlm", "RETRAIN_TOKEN": "token", "HOME": str(tmp_path)}
    script = f"git init -q\ngit remote add origin https://gitlab-ci-token:short@example.org\n{gitlabs_script()}"
    environment = os.environ | variables
    done = subprocess.run(["bash", "-e"], cwd=tmp_path, env=environment, input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()[-6:]
    assert told[:2] == ["retrain", "https://example.org/me/rnnlm.git"]
    assert told[4:] == ["username=retrain", "password=token"]


@pytest.mark.soak
def test_gitlabs_job_goes_on_from_what_githubs_has_left(tmp_path: Path) -> None:
    """As on a schedule, where documents have come that help."""
    with after_githubs_job(tmp_path) as (site, server):
        tip = site.work.git("ls-remote", "--heads", "origin", "retrained").split()[0]
        write_corpus(site.corpus, 450)
        gitlab = Runner(site, tmp_path / "gitlab", "schedule", {})
        gitlab.check_out()
        variables = {"CI_PROJECT_URL": str(site.bare).removesuffix(".git"), "RETRAIN_TOKEN": "token"}
        said = gitlab.bash(gitlabs_script(), gitlab.environment() | variables | {"MLFLOW_TRACKING_URI": server.url})
        assert "out of date: data: " in said
        assert said.count("Running stage 'train@lstm'") == 1
        # It began with what the champion knew.
        assert said.count("warm start: from the weights of champion v1, where the shapes agree") == 1
        assert re.search(r"lstm starts from the weights in data/warm_start, which knows \d+ of the \d+ words", said)
        assert "verdict: v2 promoted in place of v1" in said
        assert site.work.git("ls-remote", "--heads", "origin", "retrained").split()[0] != tip
        site.check()
