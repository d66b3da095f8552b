"""The `rnnlm` command as a whole; its commands are tested in tests/commands/."""

import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT


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
        print(sorted({"torch", "mlflow", "pandas", "nltk", "dvc", "dask", "pyarrow"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage:") > 10
    assert done.stdout.splitlines()[-1] == "[]"
