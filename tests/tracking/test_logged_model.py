"""Models in MLflow, also those that commit 726b98c logged: vocabulary and text rules were artifacts of their own."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.model.folder import SavedModel, load_model
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import MODEL_FILES
from pipeline.tracking import runs
from pipeline.tracking.logged_model import read_model
from pipeline.tracking.store import Store, connect
from tests.projects import Project, as_commit_726b98c

URI = "models:/rnnlm/1"


@pytest.fixture
def logged(project: Project) -> tuple[Store, Path, SavedModel]:
    """The store, the folder that it keeps the model in, and the model, which is nowhere else."""
    runs.log_evaluation(project.params, project.cell.name)
    saved, store = load_model(project.models), connect()
    shutil.rmtree("data")
    (model,) = store.client.search_logged_models([store.experiment_id])
    return store, Path(model.artifact_location.removeprefix("file://")), saved


def check(read: SavedModel, saved: SavedModel) -> None:
    assert read.vocabulary.tokens == saved.vocabulary.tokens
    assert read.text == saved.text
    weights, expected = read.model.state_dict(), saved.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_model_folder_is_the_one_artifact_and_is_whole(logged: tuple[Store, Path, SavedModel]) -> None:
    store, folder, saved = logged
    (kept,) = (folder / "artifacts").iterdir()
    assert {path.name for path in kept.iterdir()} == {*MODEL_FILES, "history.csv"}
    check(read_model(store, URI, "it"), saved)
    # A vocabulary of the same length, but of another model.
    path = kept / "vocabulary.tsv"
    path.write_text(path.read_text().replace("cat", "cow"))
    with pytest.raises(InputError, match=r"^it: MLflow's files of its model are not those that were trained$"):
        read_model(store, URI, "it")
    with pytest.raises(InputError, match=r"^v2: MLflow does not have the files of this model"):
        read_model(store, "models:/rnnlm/2", "v2")


def test_a_model_of_commit_726b98c_is_made_whole(logged: tuple[Store, Path, SavedModel]) -> None:
    store, folder, saved = logged
    (kept,) = (folder / "artifacts").iterdir()
    digest = as_commit_726b98c(kept, folder / "artifacts" / "vocabulary.tsv")
    content = yaml.safe_load((folder / "MLmodel").read_text())
    for name in ("vocabulary.tsv", "text.json"):
        artifact = {"path": f"artifacts/{name}", "uri": "elsewhere"}
        content["flavors"]["python_function"]["artifacts"][name.partition(".")[0]] = artifact
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    store.tag(content["run_id"], model_digest=digest)

    read = read_model(store, URI, "it")
    check(read, saved)
    assert read.train == {}
    assert not (kept / "vocabulary.tsv").exists()  # reading changes nothing in the store
    (kept / "config.json").write_text((kept / "config.json").read_text().replace("4", "5"))
    with pytest.raises(InputError, match="not those that were trained"):
        read_model(store, URI, "it")
