"""What a challenger has to beat: counting words, beside the champion (test_promotion.py)."""

from pathlib import Path

import pytest
import yaml

from pipeline.params import load_params
from pipeline.review.conditions import better_than_ngram
from pipeline.review.judgements import Turn
from pipeline.tracking.store import connect
from tests.projects import Project
from tests.review.candidates import candidate, rnnlm, write_corpus

NOT_OF_TODAY = "is not what params.yaml, dvc.lock and the data here describe; run"


def test_a_model_that_loses_to_counting_is_no_champion_not_even_the_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus()
    candidate(project, ngram=0.9)
    lost = rnnlm("promote").stdout
    assert lost.startswith(
        "v1: kept. The best n-gram is the trigram, with a test perplexity of 2.46, that of the network"
    )
    assert "100 documents (effective number 100.0): it is worse. A person may decide without it: " in lost
    candidate(project, ngram=1.0)
    assert "they cannot be told apart." in rnnlm("promote").stdout
    store = connect()
    assert store.aliases() == {"challenger": "1"}

    # A check that cannot be made is not passed, and says what to do.
    (scores,) = Path("data/evaluation/baselines").rglob("fivegram.parquet")
    kept = scores.read_bytes()
    scores.unlink()
    assert f"{NOT_OF_TODAY} `dvc repro baselines`" in rnnlm("promote").stdout
    scores.write_bytes(kept)
    lock = Path("dvc.lock").read_text()
    content = yaml.safe_load(lock)
    content["stages"]["evaluate@lstm"]["deps"] = [{"path": "data/encoded/test", "md5": "of other text"}]
    Path("dvc.lock").write_text(yaml.safe_dump(content))
    assert f"{NOT_OF_TODAY} `dvc repro evaluate@lstm`" in rnnlm("promote").stdout
    Path("dvc.lock").write_text(lock)
    project.train(seed=9)
    (gate,) = better_than_ngram(store, "1", load_params(), Turn(1, 0.95, "", ""), False, False)
    assert (gate.passed, gate.made) == (False, False)
    assert "data/models/lstm is not v1; check out the commit of that and `dvc repro` or `dvc pull`" in gate.reason

    # A person may want it all the same, a machine may not.
    monkeypatch.setenv("CI", "true")
    refused = rnnlm("promote", "--without-ngram")
    assert str(refused.exception).startswith("--without-ngram is a person's decision, and CI is set here")
    monkeypatch.delenv("CI")
    told = rnnlm("promote", "--without-ngram").stdout
    assert told.startswith("v1: promoted. There was no champion yet. It could not be compared with the best n-gram: ")
    assert "It passes all the same, as this run was told --without-ngram." in told
