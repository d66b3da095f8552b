"""The model as MLflow loads and serves it, from its own artifacts alone."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.inference.request import Options
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.runtime.paths import TOKENS
from pipeline.text.encoded import EncodedSplit
from pipeline.tracking import runs
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.text.token_files import write_rows

TEXTS = ["The cat sees the dog.", "the", "", "Nobody knows the dog."]


@pytest.fixture(scope="module")
def kept() -> list[Any]:
    """The logged model as MLflow loads it, and the folder that MLflow keeps it in, once there is one."""
    return []


@pytest.fixture
def model(project: Project, kept: list[Any]) -> tuple[Project, Any, str]:
    """A project, the logged model of one like it as MLflow loads it, and the folder that MLflow keeps it in."""
    import mlflow

    # Elsewhere, so that nothing is read from the project.
    (project.folder / "elsewhere").mkdir()
    if not kept:
        runs.log_evaluation(project.params, project.cell.name)
        store = connect()
        (logged,) = store.client.search_logged_models([store.experiment_id])
        os.chdir("elsewhere")
        kept += [mlflow.pyfunc.load_model(logged.model_uri), logged.artifact_location.removeprefix("file://")]
    os.chdir(project.folder / "elsewhere")
    served, folder = kept
    return project, served, folder


def test_scores_are_those_of_the_language_model(model: tuple[Project, Any, str]) -> None:
    project, served, _ = model
    os.chdir(project.folder)
    network = project.train()
    answer = served.predict(TEXTS)
    for text, row in zip(TEXTS, answer.to_dict("records"), strict=True):
        tokens = text.lower().replace(".", " .").split()
        split = EncodedSplit.of([project.vocabulary.sentence_ids(tokens)])
        expected = network.score(pack(split, [0])).nats_N.sum().item()
        assert row["log_probability"] == pytest.approx(-expected, abs=1e-5)
        assert row["tokens"] == len(tokens) + 1
        assert row["unknown"] == sum(token not in project.vocabulary.tokens for token in tokens)


PARAMS = [{"task": "score"}, {"task": "suggest", "count": 2}, {"task": "generate", "count": 2, "max_length": 30}]
MANY = [*TEXTS, "the cat sees", "the dog", "cat", "Nobody knows", "the cat sees the dog and the cat", "a dog ."] * 7


@pytest.mark.parametrize("params", PARAMS, ids=lambda params: params["task"])
def test_an_answer_is_the_same_alone_and_among_others(
    model: tuple[Project, Any, str], params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, served, _ = model
    alone = [served.predict([text], params=params).to_dict("records")[0] for text in MANY]
    passes = []
    for name in ("score", "hidden", "next_logits"):
        method = getattr(LanguageModel, name)
        monkeypatch.setattr(
            LanguageModel, name, lambda *args, method=method, **kwargs: passes.append(1) or method(*args, **kwargs)
        )
    together = served.predict(MANY, params=params).to_dict("records")
    for mine, others in zip(alone, together, strict=True):
        assert mine.keys() == others.keys()
        for key in mine:
            exact = key in ("tokens", "words", "sentences")
            assert others[key] == (mine[key] if exact else pytest.approx(mine[key], rel=1e-5))
    # Passes through the model: of scores and suggestions a few, of sentences one a word, however many texts there are.
    assert len(passes) <= 2 + (Options().max_length if params["task"] == "generate" else 0)


def test_unknown_words_are_charged_for_over_the_words_of_the_corpus_that_the_model_was_logged_beside(
    project: Project,
) -> None:
    import mlflow

    TOKENS.parent.mkdir(parents=True)
    write_rows(TOKENS, [("train", ["the", "bird"]), ("test", ["a", "bird", "nest"])])
    runs.log_evaluation(project.params, project.cell.name)
    store = connect()
    (logged,) = store.client.search_logged_models([store.experiment_id])
    served: Any = mlflow.pyfunc.load_model(logged.model_uri)
    assert "'over_types': boolean (default: False)" in str(served.metadata.signature.params)
    plain, shared = (served.predict(TEXTS, params={"over_types": over}) for over in (False, True))
    unknown = {word for word in ("a", "bird", "nest", "nobody", "knows") if word not in project.vocabulary.tokens}
    assert {"bird", "nest", "nobody", "knows"} <= unknown
    charged = plain["log_probability"] - plain["unknown"] * math.log(len(unknown))
    assert shared["log_probability"].tolist() == pytest.approx(charged.tolist())
    assert (shared["log_probability"] < plain["log_probability"]).tolist() == [False, False, False, True]


def test_without_the_words_of_a_corpus_nobody_is_charged_over_them(model: tuple[Project, Any, str]) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"params\.over_types: the words of a corpus are not at hand here"):
        model[1].predict(["x"], params={"over_types": True})


def test_no_texts_have_no_answers(model: tuple[Project, Any, str]) -> None:
    for params in PARAMS:
        assert len(model[1].predict([], params=params)) == 0


def test_next_words_and_sentences(model: tuple[Project, Any, str]) -> None:
    _, served, _ = model
    answer = served.predict(["the cat", "the"], params={"task": "suggest", "count": 2})
    assert [len(words) for words in answer["words"]] == [2, 2]
    assert answer["probabilities"][0] == sorted(answer["probabilities"][0], reverse=True)
    drawn = [served.predict(["the cat"], params={"task": "generate", "seed": seed}) for seed in (1, 1, 2)]
    first, again, other = (answer["sentences"][0] for answer in drawn)
    assert len(first) == 5
    assert all(sentence.startswith("the cat") for sentence in first)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("text", "params", "expected"),
    [
        (["x"], {"task": "sing"}, "task"),
        (["x"], {"count": 0}, "count"),
        (["x"], {"task": "generate", "temperature": 0.0}, "temperature"),
        (["x"], {"task": "generate", "temperature": float("nan")}, "temperature"),
        (["x"], {"top_k": -1}, "top_k"),
        (["x"], {"max_length": 10**9}, "max_length"),
        (["x"], {"seed": -1}, "seed"),
        (["x"], {"seed": 2**64}, "seed"),
        (["x" * 200_000], {}, "inputs.0: .*100000"),
        (["x"] * 20_000, {}, "inputs: .*10000"),
        (["x" * 50_000] * 21, {}, "1050000 characters"),
        (["x"] * 10, {"task": "generate", "count": 100}, "100000 words"),
        (["x"] * 10_000, {"task": "suggest", "count": 6}, "texts x count is 60000"),
        (["'" * 50_000], {}, "25001 tokens"),
        (["x " * 900], {"task": "generate", "count": 25, "max_length": 1}, "22525 tokens"),
        (["x x"] * 7_000, {}, "21000 tokens"),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(
    model: tuple[Project, Any, str], text: list[str], params: dict[str, Any], expected: str
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=expected) as refused:
        model[1].predict(text, params=params)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.slow
def test_the_logged_model_stands_on_its_own(model: tuple[Project, Any, str]) -> None:
    project, _, folder = model
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".bin")]
    assert "torch==" in (Path(folder) / "requirements.txt").read_text()
    script = (
        "import json, sys, warnings; import mlflow.pyfunc; warnings.simplefilter('error', UserWarning); "
        "served = mlflow.pyfunc.load_model(sys.argv[1]); "
        "print(json.dumps(served.predict(['the cat']).to_dict('records')))"
    )
    # -I: neither the folder we stand in nor PYTHONPATH; the project's code comes from the model.
    command = [sys.executable, "-I", "-c", script, folder]
    done = subprocess.run(command, cwd=project.folder / "elsewhere", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["tokens"] == 3


def test_the_example_request_fits(model: tuple[Project, Any, str]) -> None:
    example = json.loads((Path(model[2]) / "serving_input_example.json").read_text())
    assert list(model[1].predict(example["inputs"]).columns) == ["log_probability", "tokens", "unknown"]
