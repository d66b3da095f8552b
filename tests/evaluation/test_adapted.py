"""Which adaptations are made of one model, and which of several."""

import pytest

from pipeline.evaluation.adaptation import Reader
from pipeline.evaluation.adapted import Adaptations, metrics_of, nats_of
from tests.evaluation.test_adaptation import model_of, words


@pytest.mark.parametrize("models", [1, 2])
def test_one_model_is_adapted_and_several_are_an_ensemble(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.evaluation.adaptation.THETAS", (0.5,))
    texts, read = (words(4, 1), words(5, 2)), [model_of(seed) for seed in range(models)]
    adapt = Adaptations(["cache", "ensemble + cache", "ensemble"], *texts, None, lambda scores: {"tokens": len(scores)})
    found = adapt.of(read, "stream", "it")
    assert list(found) == (["cache"] if models == 1 else ["ensemble + cache", "ensemble"])
    first, reader = next(iter(found)), Reader(read, "stream")
    scored = reader.score(texts[1], reader.choose(texts[0], list(found)))
    assert found[first].figures["tokens"] == 5
    assert found[first].figures["parameters"] == models * read[0].parameter_count()
    assert nats_of(found)[first].tolist() == scored[first].sentences.nats.tolist()
    assert metrics_of(found) == {"adapted": {name: one.figures for name, one in found.items()}}
    assert "cache_weight" in found[first].figures


def test_without_a_name_nothing_is_read() -> None:
    adapt = Adaptations([], words(1, 1), words(1, 1), None, lambda scores: {})
    assert adapt.of([model_of(1)], "stream", "it") == metrics_of({}) == {}
    assert not adapt.ensembles
