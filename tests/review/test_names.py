"""What a person may call a model: the same names in every command."""

import shutil
from pathlib import Path

import pytest

from pipeline.model.folder import SavedModel, model_digest
from pipeline.params import load_params
from pipeline.review.names import find, follower, model_called
from pipeline.review.promotion import rollback
from pipeline.runtime.errors import InputError
from pipeline.tracking.runs import log_evaluation
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store
from tests.projects import Project
from tests.review.conftest import make_run


def test_an_id_its_first_characters_and_a_name_find_a_run(store: Store) -> None:
    first, second = make_run(store, "lstm, 4 units"), make_run(store, 'it\'s "mine"')
    for text in (first, first[:4] if first[:4] != second[:4] else first[:12], "lstm, 4 units"):
        assert find(store, text).info.run_id == first
    assert find(store, 'it\'s "mine"').info.run_id == second


def test_what_fits_no_run_or_several_is_refused(store: Store) -> None:
    run, other = make_run(store, "twin"), make_run(store, "twin")
    for text in (run[:3], "nobody", "", "%"):
        with pytest.raises(InputError, match="no run fits"):
            find(store, text)
    with pytest.raises(InputError, match="fits 2 runs") as refused:
        find(store, "twin")
    assert run[:8] in str(refused.value)
    assert other[:8] in str(refused.value)


def test_aliases_and_versions_find_the_run_of_a_registered_model(store: Store) -> None:
    with pytest.raises(InputError, match="no champion yet"):
        find(store, "champion")
    with pytest.raises(InputError, match="has no version 1; there are: none"):
        find(store, "v1")
    store.client.create_registered_model(MODEL)
    runs = [make_run(store, name) for name in ("a", "b")]
    for run in runs:
        logged = store.client.create_logged_model(store.experiment_id, "m", run)
        store.client.create_model_version(MODEL, logged.model_uri, run)
    store.set_alias(CHAMPION, "1")
    store.set_alias(CHALLENGER, "2")
    assert [find(store, text).info.run_id for text in ("champion", "v1", "challenger", "v2")] == [
        runs[0],
        runs[0],
        runs[1],
        runs[1],
    ]
    with pytest.raises(InputError, match="has no version 3; there are: v1, v2"):
        find(store, "v3")


def test_every_name_of_a_model_gives_its_run_and_its_weights(store: Store, project: Project) -> None:
    """As an address of MLflow's, too; of two models, so that a name could be mistaken."""
    first = digest_of(project)
    log_evaluation(load_params(), "lstm")
    store.set_alias(CHAMPION, "1")
    run = find(store, "lstm")
    project.train(seed=2)
    with pytest.raises(InputError, match="data/models/lstm has no run in MLflow; `rnnlm sync` makes it"):
        find(store, "lstm")
    log_evaluation(load_params(), "lstm")
    other = find(store, "lstm")
    assert [found.data.tags["model_digest"] for found in (run, other)] == [first, digest_of(project)]
    ways = ("champion", "v1", run.info.run_id, run.info.run_id[:12], "models:/rnnlm@champion", "models:/rnnlm/1")
    for text in ways:
        assert find(store, text).info.run_id == run.info.run_id, text
        assert digest_of(project, model_called(text, Path(text))) == first, text
    for text in ("lstm", "v2", other.info.run_id):
        assert digest_of(project, model_called(text, Path(text))) == other.data.tags["model_digest"], text


def test_a_follower_gives_each_champion_once_the_former_one_after_a_rollback(store: Store, project: Project) -> None:
    newer = follower("champion")
    with pytest.raises(InputError, match="no champion yet"):
        newer()
    digests = []
    for seed in (1, 2):
        project.train(seed)
        log_evaluation(load_params(), "lstm")
        digests.append(digest_of(project))
    store.set_alias(CHAMPION, "2")
    store.client.set_registered_model_tag(MODEL, "former_champions", "1")
    assert digest_of(project, newer()) == digests[1]
    assert newer() is None
    rollback(store)
    assert digest_of(project, newer()) == digests[0]
    assert newer() is None


def test_a_folder_is_a_model_and_what_lies_in_data_needs_no_mlflow(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TRACKING", "off")
    shutil.copytree(project.models, "mine")
    assert digest_of(project, model_called("mine", Path("mine"))) == digest_of(project)
    assert digest_of(project, model_called("lstm", Path("lstm"))) == digest_of(project)
    with pytest.raises(InputError, match="no model named 'nobody' in data/models, no such folder, and RNNLM_TRACKING"):
        model_called("nobody", Path("nobody"))
    with pytest.raises(InputError, match="RNNLM_TRACKING=off"):
        model_called("champion", Path("champion"))


def digest_of(project: Project, saved: SavedModel | None = None) -> str:
    """Of a model as it would lie in its folder; without one, of that in data/."""
    if saved is None:
        return model_digest(project.models)
    from pipeline.model.folder import save_model

    save_model(saved, Path("copy"))
    return model_digest(Path("copy"))
