"""The `rnnlm` command as a whole; its commands are tested in tests/commands/."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import app
from tests.conftest import PROJECT

GROUP = typer.main.get_command(app)
# They go on until somebody stops them, or tell what they do while they do it.
WITHOUT_JSON = {"serve", "play", "ui", "train", "retrain"}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("start", ["from pipeline import cli; cli.app = {}; cli.main()", "import stages; ({})()"])
def test_a_terminal_of_another_encoding_gets_escapes(start: str, encoding: str) -> None:
    word = "caf\u00e9 \U0001f600"
    command = [sys.executable, "-c", start.format(f"lambda: print({word!a})")]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True
    )
    assert done.stdout.strip() == word.encode(encoding, "backslashreplace")


def test_help_imports_nothing_heavy() -> None:
    script = """if True:
        import sys
        import typer
        from pipeline.cli import app
        for command in ([], *([name] for name in typer.main.get_command(app).commands)):
            app([*command, "--help"], standalone_mode=False)
        print(sorted({"torch", "mlflow", "pandas", "nltk", "dvc", "dask", "pyarrow", "optuna"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage:") > 10
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_example_is_a_command_line_that_is_understood() -> None:
    commands = GROUP.commands  # pyrefly: ignore[missing-attribute]
    assert len(commands) > 20
    for name, command in commands.items():
        if command.hidden:
            continue
        first, *lines = command.epilog.splitlines()
        assert first == "Examples:"
        assert lines, name
        for line in lines:
            words = shlex.split(line.partition("|")[2] or line)
            assert words[:2] == ["rnnlm", name]
            arguments = words[2 : words.index(">")] if ">" in words else words[2:]
            command.make_context(name, arguments)  # raises an error where an option is not one of the command's


def test_every_command_that_ends_speaks_json() -> None:
    commands = GROUP.commands  # pyrefly: ignore[missing-attribute]
    without = {
        name for name, command in commands.items() if not any("--json" in param.opts for param in command.params)
    }
    assert without == WITHOUT_JSON


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"rnnlm {version('rnnlm')}\n"


@pytest.mark.parametrize(("typed", "meant"), [("scroe", "'score'"), ("neighbors", "'neighbours'")])
def test_a_mistyped_command_is_understood(typed: str, meant: str) -> None:
    done = CliRunner().invoke(app, [typed])
    assert done.exit_code == 2
    assert f"No such command '{typed}'. Did you mean {meant}" in " ".join(done.stderr.split())


def test_a_shell_completes_commands_and_names_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "models" / "wide").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def completed(words: str) -> set[str]:
        count = len(words.split(" ")) - 1
        asked = {"_RNNLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        return set(CliRunner().invoke(app, [], env=asked, prog_name="rnnlm").stdout.split())

    assert completed("rnnlm ne") == {"neighbours"}
    assert completed("rnnlm suggest --model w") == {"wide"}
    assert completed("rnnlm compare c") == {"champion", "challenger"}
    assert (
        "complete_bash" in CliRunner().invoke(app, [], env={"_RNNLM_COMPLETE": "source_bash"}, prog_name="rnnlm").stdout
    )


def test_a_signal_ends_a_command_without_what_python_would_do_first() -> None:
    code = """
import atexit
from pipeline import cli
from pipeline.runtime.errors import StoppedError
def app():
    print("said")
    raise StoppedError("stopped", 15)
atexit.register(print, "done at the end")
cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "said\n", "error: stopped\n")
