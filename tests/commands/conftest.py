"""A small untrained project, and the command line in it."""

import math
import os
import shutil
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT, saved_model, vocabulary_of


@pytest.fixture(scope="package")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(PROJECT / "params.yaml", folder)
    shutil.copy(PROJECT / "dvc.yaml", folder)
    words = ["the", "cat", "sat", "on", "a", "mat", ".", "n't", "do"]
    vocabulary = vocabulary_of({word: 20 - index for index, word in enumerate(words)}, None, 10)
    vocabulary.save(folder / "data" / "vocabulary.tsv")
    for number, (name, cell) in enumerate(load_params(PROJECT / "params.yaml").cells.items()):
        model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(number))
        save_model(saved_model(model, vocabulary), folder / "data" / "models" / name)
        history = "epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
        history += f"1,10,0.1,2.0,{math.log(9 - number)},{9 - number}\n"
        (folder / "data" / "models" / name / "history.csv").write_text(history)
    return folder


def rnnlm(folder: Path, *arguments: str, status: int = 0, stdin: bytes = b"") -> str:
    """What a command prints, called in this process; of one that fails, the line that it ends with."""
    with patch.dict(os.environ, {"RNNLM_TRACKING": "off"}), chdir(folder):
        done = CliRunner().invoke(app, arguments, input=stdin)
    if status:
        assert isinstance(done.exception, InputError), done.output
        assert len(str(done.exception).splitlines()) == 1
        return f"error: {done.exception}\n"  # as pipeline.runtime.stage.run prints it
    assert done.exit_code == 0, done.output
    return done.stdout
