"""What several tests share."""

import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported, and for every process that a test starts: threads that spin while they wait would take the
# processors from the other tests, ten times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from filelock import FileLock, Timeout
from hypothesis import settings

# Dask's workers import this file too, and need no torch.
if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from pipeline.model.folder import SavedModel
    from pipeline.model.language_model import LanguageModel
    from pipeline.model.params import ModelParams
    from pipeline.text.vocabulary import Vocabulary

# What the shell of whoever runs the tests, or their CI, says of other projects and servers: a test that needs one of
# these sets it. What `make soak` says to the tests stays.
STRAY = ("CI", "GITHUB_", "GITLAB_", "MLFLOW_", "RNNLM_", "DASK_", "DVC_", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
STRAY += ("MAKE", "MFLAGS")  # of the `make` that runs the tests, to which another one would add its lines
OWN = ("RNNLM_SOAK", "RNNLM_SIGNALS", "RNNLM_BROWSER")
for _name in [name for name in os.environ if name.startswith(STRAY) and not name.startswith(OWN)]:
    del os.environ[_name]

pytest_plugins = ["tests.projects"]

# A busy machine makes no example wrong; a test that is run often needs fewer of them at a time.
settings.register_profile("patient", deadline=None)
settings.register_profile("often", deadline=None, max_examples=40)
settings.load_profile("patient")

# Whether `make soak` is running, where some tests do the same with many more kills, files and documents.
SOAK = os.environ.get("RNNLM_SOAK") == "1"
PROJECT = Path(__file__).resolve().parents[1]
DURATION = r"[\d.]+ (?:s|min|h)"  # as pipeline.runtime.progress writes it, on machines of any speed
# The files that take longest, which begin first, so that no process of pytest waits long for the other. Of the first
# four only one asks for the clone `plain`, for which the others would wait.
LONGEST = ["test_pipeline", "test_workflows", "test_serving", "test_backup", "test_versions", "test_interruptions"]
LONGEST += ["test_promotion", "test_comparison", "test_recipe", "test_headline", "test_retrain_waits", "test_retrain"]
LONGEST += ["test_code_changes", "test_same_bytes", "test_limits", "test_parallel", "test_ui", "test_cleaning"]
LONGEST += ["test_parallel_clusters", "test_site_pages", "test_seeds", "test_dvc_complaints", "test_unpacking"]
LONGEST += ["test_store", "test_dvc", "test_code", "test_report", "test_git", "test_git_changes"]


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests are left out, as by `make test`, leave out examples of the others too; hear Ctrl-C."""
    # A shell that is not interactive starts what it puts in the background deaf to it, and so all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "slow" in str(config.getoption("markexpr")):
        settings.load_profile("often")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the tests as pytest compiles them, which is half of the collection, even if Python shall keep nothing.

    Of several processes the first compiles them, and the others, which would all do the same at once, wait for that.
    """
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    lock = FileLock(PROJECT / ".pytest_cache" / "compiling.lock")
    Path(lock.lock_file).parent.mkdir(exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        lock.acquire()
        lock.release()
    try:
        return (yield)
    finally:
        lock.release()
        sys.dont_write_bytecode = kept


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Give back the variables of the process: MLflow's server and Dask's nannies set some, which processes inherit."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Corpora that some machines have beside the checkout; tests that need them skip elsewhere."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/data beside the checkout (corpora that cannot be distributed)")
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium. Where it is missing the test is skipped, but it fails where RNNLM_BROWSER says that there is one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="a browser needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        (pytest.fail if "RNNLM_BROWSER" in os.environ else pytest.skip)("a browser needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def vocabulary_of(counts: Mapping[str, int], size: int | None, sentences: int) -> "Vocabulary":
    """The vocabulary of a training split with these counts."""
    from pipeline.text.counting import WordCounts, build_vocabulary

    words = WordCounts(Path("never written, so few are these"))
    words.add(counts.keys(), counts.values())
    words.sentences = sentences
    return build_vocabulary(words, size)


def saved_model(model: "LanguageModel", vocabulary: "Vocabulary | None" = None, lowercase: bool = True) -> "SavedModel":
    """A model with what its folder holds besides; without a vocabulary its words are w2, w3 and so on."""
    from pipeline.model.folder import SavedModel, TextRules
    from pipeline.text.vocabulary import Vocabulary

    tokens = ["SENTENCE_START", "SENTENCE_END", *(f"w{id_}" for id_ in range(2, model.vocabulary_size - 1))]
    vocabulary = vocabulary or Vocabulary([*tokens, "UNKNOWN_TOKEN"], [0] + [1] * (model.vocabulary_size - 1))
    return SavedModel(model, vocabulary, TextRules(lowercase=lowercase), {"seed": 1})


def model_params(**changes) -> "ModelParams":
    """Section `model` of a small LSTM, but for `changes`."""
    from pipeline.model.params import NEUTRAL_SHAPE, ModelParams

    values = {
        "cell": "lstm",
        "hidden_size": 12,
        "embedding_dim": None,
        "layers": 1,
        "bias": True,
        "output_bias": True,
        "tie_weights": False,
        "dropout": 0.0,
        "lookup_init": None,
    }
    return ModelParams.model_validate({**NEUTRAL_SHAPE, **values, **changes})
