"""Recipes: what they change of params.yaml, and where they run; tests/system/test_recipe.py runs one."""

import json
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.params import check_params, read_params
from pipeline.provenance.git import RECIPE_RUNS
from pipeline.retraining import recipe_run
from pipeline.retraining.recipe_run import apply_recipe, recipe_params, recipes
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with params.yaml and one recipe."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_text((PROJECT / name).read_text())
    folder = Path("recipes/small")
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("\n# My text: test perplexity 12.\n\nMore.\n")
    (folder / "params.yaml").write_text("train:\n  epochs: 4\ncells:\n  small: {cell: gru}\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        variables = {
            f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        subprocess.run(["git", *command], check=True, env=os.environ | variables)
    return tmp_path


def test_a_recipe_changes_what_it_names_of_the_last_commit_and_its_cells_stand_alone(checkout: Path) -> None:
    committed = read_params()
    Path("params.yaml").write_text("what: is being edited\n")
    content, params = recipe_params("small", ["train.learning_rate=1e-2", "+download.sources.mine=[{url: 'a.txt'}]"])
    assert list(params.cells) == ["small"]
    changed = {"epochs": 4, "learning_rate": 0.01}
    assert content["train"] == committed["train"] | changed
    assert list(content["download"]["sources"]) == [*committed["download"]["sources"], "mine"]
    rest = set(content) - {"train", "cells", "download"}
    assert {key: content[key] for key in rest} == {key: committed[key] for key in rest}


def test_text_of_ones_own_is_read_where_it_lies(checkout: Path) -> None:
    Path("my.txt").write_text("A text.")
    for path, read in (("my.txt", str(checkout / "my.txt")), ("s3://b/my.txt", "s3://b/my.txt")):
        content, _ = recipe_params("small", ["download.source=files", f"download.path={path}"])
        assert content["download"]["path"] == read
    assert recipe_params("small")[0]["download"]["path"] == "corpus"  # which no source but `files` reads


def test_text_that_is_not_there_is_named_before_anything_is_laid_out(checkout: Path) -> None:
    said = r"^recipes/small/params.yaml with -S: download.path: .*/my.txt does not exist$"
    with pytest.raises(InputError, match=said):
        apply_recipe("small", ["download.source=files", "download.path=my.txt"])
    assert not RECIPE_RUNS.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epochs", "-S 'train.epochs': expected KEY=VALUE, such as train.epochs=2"),
        ("=2", "-S '=2': expected KEY=VALUE"),
        (".x=1", "-S '.x=1': expected KEY=VALUE"),
        ("train.epochs=[1", "-S 'train.epochs=[1': the value is not YAML: "),
        ("train.epochs.more=1", "-S train.epochs.more: epochs is a value, not a section of params.yaml"),
        ("train.epoch=1", "recipes/small/params.yaml with -S: train.epoch: unknown key"),
        ("train.epochs=many", "recipes/small/params.yaml with -S: train.epochs: "),
    ],
)
def test_what_does_not_fit_is_one_line(checkout: Path, change: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe_params("small", [change])
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_a_recipe_that_is_not_there_is_named_beside_those_that_are(checkout: Path) -> None:
    with pytest.raises(InputError, match=r"^no recipe 'tiny'; there are: small$"):
        recipe_params("tiny")
    done = CliRunner().invoke(app, ["recipe"])
    assert "│ small  │ My text: test perplexity 12. │" in done.stdout
    assert json.loads(CliRunner().invoke(app, ["recipe", "--json"]).stdout) == {"small": "My text: test perplexity 12."}


def test_one_recipe_runs_once_at_a_time(checkout: Path) -> None:
    RECIPE_RUNS.mkdir(parents=True)
    with (
        FileLock(RECIPE_RUNS / "small.lock"),
        pytest.raises(InputError, match="recipe small is already running in this folder"),
    ):
        apply_recipe("small")


def test_a_stage_that_fails_is_told_and_leaves_the_checkout_alone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe_run, "DVC", ("sh", "-c", 'echo "$RNNLM_EXPERIMENT"; cat params.yaml; exit 3'))

    cache = SimpleNamespace(local=SimpleNamespace(path=str(checkout / "cache")))
    monkeypatch.setattr(recipe_run, "repository", lambda: nullcontext(SimpleNamespace(cache=cache)))
    Path("params.yaml").write_text("what: is being edited\n")
    with pytest.raises(InputError, match=r"^a stage of recipe small failed; its message stands above"):
        apply_recipe("small", ["train.seed=7"])
    said, told = capfd.readouterr()
    assert said == ""
    assert "note: recipes run the last commit, without the changes of params.yaml\n" in told
    _, experiment, written = told[told.index("note:") :].split("\n", 2)
    assert experiment == "recipe small"
    params = check_params(yaml.safe_load(written))
    assert [(cell.name, cell.train.seed, cell.train.epochs) for cell in params.cells.values()] == [("small", 7, 4)]
    assert Path("params.yaml").read_text() == "what: is being edited\n"
    assert (RECIPE_RUNS / "small/.dvc/config.local").read_text() == f"[cache]\n    dir = {checkout}/cache\n"


@pytest.mark.parametrize("name", [path.parent.name for path in sorted(PROJECT.glob("recipes/*/params.yaml"))])
def test_every_recipe_of_the_project_fits_params_yaml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    committed = (PROJECT / "params.yaml").read_text()
    monkeypatch.setattr("pipeline.provenance.git.output", lambda *arguments: committed)
    assert recipes()[name] != "no README.md"
    _, params = recipe_params(name)
    assert params.cells
