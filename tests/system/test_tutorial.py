"""The tutorial's commands, as a reader types them; that each exists is in tests/test_docs.py."""

import json
import re
import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest

from tests.conftest import PROJECT
from tests.system.conftest import Clone

BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (PROJECT / "docs/tutorial.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.soak
def test_every_command_of_the_tutorial_works_as_printed(plain: Clone, tmp_path: Path) -> None:
    clone = plain.copy(tmp_path / "clone", tracking=True)
    # As `make setup` leaves it, which would fetch the packages that are here already, and with the clone's own code.
    programs = clone.folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs.parent / "ready").touch()
    for name in ("python", "dvc", "rnnlm"):
        command = f'PYTHONPATH="{clone.folder}" exec "{Path(sys.executable).parent}/{name}" "$@"'
        (programs / name).write_text(f"#!/bin/sh\n{command}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    clone.git("add", "dvc.lock", "data")
    clone.git("commit", "-q", "-m", "results")

    def typed(block: str) -> CompletedProcess[str]:
        # Variables that say it is a part of the `make` that runs the tests would not be there.
        environment = {
            name: value for name, value in clone.environment.items() if not name.startswith(("MAKE", "MFLAGS"))
        }
        environment["PATH"] = f"{programs}:{environment['PATH']}"  # once activated
        return run(["bash", "-euc", block], cwd=clone.folder, env=environment, capture_output=True, text=True)

    printed = {}
    for block in BLOCKS:
        done = typed(block)
        assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
        printed[block.split()[0], block.split()[1]] = done.stdout
    assert len(BLOCKS) == 8
    assert re.search(r"gru\b.*\d", printed["make", "repro"])
    assert re.fullmatch(r"(\S+\t0\.\d+\n){5}", printed["rnnlm", "suggest"])
    assert len(printed["rnnlm", "generate"].splitlines()) == 10
    assert re.match(r"-\d+\.\d+\t", printed["echo", '"the'])
    assert " passed" in printed["python", "-m"]
    assert re.findall(r"^Running stage '(.+)'", printed["dvc", "exp"], re.M) == ["train@lstm", "evaluate@lstm"]
    assert re.search(r"lstm/metrics.json +perplexity +\d", printed["dvc", "exp"])
    assert not clone.git("status", "--porcelain", "data", "dvc.lock", "params.yaml")

    # Its own results, in both languages, and no longer ours.
    page, chinese = ((clone.folder / f"docs/tutorial{end}.md").read_text(encoding="utf-8") for end in ("", ".zh"))
    shown = re.findall(r"^\| GRU \| (\S+) \|", page, re.M)
    assert shown == re.findall(r"^\| GRU \| (\S+) \|", chinese, re.M)
    metrics = json.loads((clone.folder / "data/evaluation/gru/metrics.json").read_text())
    assert shown == [f"{metrics['perplexity']:.1f}"]
    assert page != (PROJECT / "docs/tutorial.md").read_text(encoding="utf-8")
    before = (clone.folder / "docs/tutorial/measured.json").read_bytes()
    clone.run(sys.executable, "-m", "tools.tutorial")
    assert (clone.folder / "docs/tutorial/measured.json").read_bytes() == before
    (clone.folder / "data/models/gru/model.safetensors").unlink()
    refused = clone.fails(sys.executable, "-m", "tools.tutorial")
    assert "error: data/models/gru/model.safetensors is not what dvc.lock says; run `dvc repro`" in refused
