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
from pipeline.tracking.logged_model import FILES_DIGEST, read_model
from pipeline.tracking.store import CHAMPION, MODEL, Store, connect
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
    with pytest.raises(InputError, match=r"^it: MLflow's files of its model are not those that were logged$"):
        read_model(store, URI, "it")
    with pytest.raises(InputError, match=r"^v2: MLflow does not have the files of this model"):
        read_model(store, "models:/rnnlm/2", "v2")


def test_a_changed_byte_of_any_file_is_one_line(logged: tuple[Store, Path, SavedModel]) -> None:
    store, folder, saved = logged
    store.set_alias(CHAMPION, "1")
    cache = folder / "code" / "pipeline" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "cli.cpython-311.pyc").write_bytes(b"left by `mlflow models serve`")
    check(read_model(store, URI, "it"), saved)
    for name in ("code/pipeline/inference/serving.py", "MLmodel", "requirements.txt", "code/pipeline/new.py"):
        path = folder / name
        before = path.read_bytes() if path.exists() else b""
        path.write_bytes(before + b"\n")
        for uri in (URI, f"models:/{MODEL}@{CHAMPION}", f"models:/{folder.parent.name}"):
            with pytest.raises(InputError, match=r"^it: MLflow's files of its model are not those that were logged$"):
                read_model(store, uri, "it")
        path.write_bytes(before)


def test_another_logged_model_in_its_place_is_found(project: Project) -> None:
    store = connect()
    runs.log_evaluation(project.params, project.cell.name)
    project.train(seed=2)
    runs.log_evaluation(project.params, project.cell.name)
    second, first = (
        Path(model.artifact_location.removeprefix("file://"))
        for model in store.client.search_logged_models([store.experiment_id])
    )
    shutil.rmtree(first)
    shutil.copytree(second, first)
    with pytest.raises(InputError, match="not those that were logged"):
        read_model(store, f"models:/{first.parent.name}", "it")


def test_no_code_of_the_store_is_run(logged: tuple[Store, Path, SavedModel], tmp_path: Path) -> None:
    """Of a model that an older version logged, code is covered by no digest: it must not be run at all."""
    store, folder, saved = logged
    for path in folder.rglob("*.py"):
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (model,) = store.client.search_logged_models([store.experiment_id])
    store.client.delete_logged_model_tag(model.model_id, FILES_DIGEST)
    check(read_model(store, URI, "it"), saved)
    assert not (tmp_path / "ran").exists()


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
    (model,) = store.client.search_logged_models([store.experiment_id])
    store.client.delete_logged_model_tag(model.model_id, FILES_DIGEST)

    read = read_model(store, URI, "it")
    check(read, saved)
    assert read.train == {}
    assert not (kept / "vocabulary.tsv").exists()  # reading changes nothing in the store
    (kept / "config.json").write_text((kept / "config.json").read_text().replace("4", "5"))
    with pytest.raises(InputError, match="not those that were logged"):
        read_model(store, URI, "it")
