"""Adapted models against their equations, written plainly in float64, one word after another."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.evaluation import adaptation, reading
from pipeline.evaluation.adaptation import Chosen, Measured, Place, Reader, beginning
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.params import parts_of
from pipeline.model.language_model import LanguageModel
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID
from tests.conftest import model_params

SIZE, SEGMENT = 12, 3
PLACE, WEIGHTS = Place(window=4, theta=0.6), {"cache": 0.2, "interpolation": 0.3}


def words(sentences: int, seed: int, longest: int = 5) -> EncodedSplit:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(0, longest + 1, sentences)
    return EncodedSplit.of([START_ID, *chance.integers(2, SIZE, length), END_ID] for length in lengths)


@pytest.fixture(scope="module")
def fivegram() -> KneserNey:
    return KneserNey(words(40, seed=9), SIZE, 5)


@pytest.fixture(autouse=True)
def _blocks_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOGITS", 5 * SIZE)
    monkeypatch.setattr(reading, "READ_TOKENS", 14)
    monkeypatch.setattr(reading, "SEGMENT", SEGMENT)


def model_of(seed: int, tied: bool = False) -> LanguageModel:
    """An LSTM whose probabilities are far from equal."""
    params = model_params(cell="lstm", hidden_size=5, embedding_dim=5, tie_weights=tied)
    model, chance = LanguageModel(params, SIZE).double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.8, generator=chance)
    return model


def plainly(model: LanguageModel, split: EncodedSplit, context: str, rate: float | None) -> list:
    """Of each target the state h and the logits, by the equations of one time step and autograd through these."""
    sentences = [split.ids[begin:end].tolist() for begin, end in itertools.pairwise(split.offsets)]
    segments = sentences
    if context == "stream":
        text = [END_ID, *(word for sentence in sentences for word in sentence[1:])]
        segments = [text[at : at + SEGMENT + 1] for at in range(0, len(text) - 1, SEGMENT)]
    theta = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    found, s, c = [], torch.zeros(5).double(), torch.zeros(5).double()
    for segment in segments:
        nats = torch.zeros(()).double()
        if context == "sentence":
            s, c = torch.zeros(5).double(), torch.zeros(5).double()
        for word, target in itertools.pairwise(segment):
            gates = theta["E"][word] @ theta["layers.0.U"] + s @ theta["layers.0.W"] + theta["layers.0.b"]
            o, i, f, g = gates.chunk(4)
            c = c * f.sigmoid() + i.sigmoid() * g.tanh()
            s = o.sigmoid() * c.tanh()
            logits = theta.get("V", theta["E"]) @ s + theta["c"]
            nats = nats - logits.log_softmax(0)[target]
            found.append((s.detach(), logits.detach()))
        s, c = s.detach(), c.detach()
        if rate:
            nats.backward()
            with torch.no_grad():
                for weight in theta.values():
                    assert weight.grad is not None
                    weight -= rate / SEGMENT * weight.grad
                    weight.grad = None
    return found


def distributions(
    models: list[LanguageModel], split: EncodedSplit, context: str, chosen: Chosen, fivegram: KneserNey
) -> np.ndarray:
    """(tokens, words): the mixture, as the heads of adaptation.py and neural_cache.py have it."""
    target = np.delete(split.ids, split.offsets[:-1]).tolist()
    read = [plainly(model, split, context, chosen.rate) for model in models]
    counted = fivegram.likeliest(split, np.ones(len(target), bool), SIZE)
    weight, rows = (
        dict(zip([p for p in ("cache", "interpolation") if p in chosen.parts], chosen.weights[1:], strict=True)),
        [],
    )
    for t in range(len(target)):
        p_model = np.mean([(found[t][1] / chosen.temperature).softmax(0).numpy() for found in read], axis=0)
        p = chosen.weights[0] * p_model
        if "cache" in weight:
            p_cache = np.zeros(SIZE)
            for found in read:
                before = range(max(0, t - PLACE.window), t)
                likeness = {i: math.exp(PLACE.theta * float(found[t][0] @ found[i][0])) for i in before}
                for i in before:
                    p_cache[target[i]] += likeness[i] / sum(likeness.values()) / len(read)
            p = p + weight["cache"] * (p_cache if t else p_model)
        if "interpolation" in weight:
            p_5 = np.zeros(SIZE)
            p_5[counted[0][t]] = np.exp(-counted[1][t])
            p = p + weight["interpolation"] * p_5
        rows.append(p)
    return np.array(rows)


def chosen_for(name: str) -> Chosen:
    parts = parts_of(name)
    others = [WEIGHTS[part] for part in ("cache", "interpolation") if part in parts]
    return Chosen(
        parts,
        rate=0.7 if "dynamic" in parts else None,
        temperature=1.3 if "temperature" in parts else 1.0,
        place=PLACE if "cache" in parts else None,
        weights=[1 - sum(others), *others],
    )


EVERY = [
    "temperature",
    "cache",
    "interpolation",
    "dynamic",
    "ensemble",
    "ensemble + dynamic + temperature + cache + interpolation",
]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("context", ["sentence", "stream"])
@pytest.mark.parametrize("name", EVERY)
def test_every_adaptation_is_its_equations(name: str, context, tied: bool, fivegram: KneserNey) -> None:
    split, chosen = words(9, seed=4), chosen_for(name)
    models = [model_of(seed, tied) for seed in ([1, 2, 3] if "ensemble" in name else [1])]
    before = {key: weight.clone() for key, weight in models[0].named_parameters()}
    p_NC = distributions(models, split, context, chosen, fivegram)
    assert p_NC.sum(1) == pytest.approx(1)
    done = 0
    for _, start, target_R, nats_R, rank_R in Reader(models, context, fivegram).predictions(
        split, chosen.rate, {name: chosen}
    ):
        assert start == done
        p_RC = p_NC[start : start + len(target_R)]
        own_R = p_RC[np.arange(len(target_R)), target_R]
        assert nats_R == pytest.approx(-np.log(own_R), abs=1e-9)
        assert rank_R.tolist() == (p_RC > own_R[:, None] + 1e-12).sum(1).tolist()
        done += len(target_R)
    assert done == split.tokens
    for key, weight in models[0].named_parameters():
        assert torch.equal(weight, before[key])  # it is a copy that learns


def cut(split: EncodedSplit, token: int, tail: EncodedSplit) -> EncodedSplit:
    """The predicted tokens of a split before this one, and then another text, which ends the sentence under way."""
    words = np.delete(split.ids, split.offsets[:-1])[:token]
    ids = [*words.tolist(), *np.delete(tail.ids, tail.offsets[:-1]).tolist()]
    ends = [at + 1 for at, word in enumerate(ids) if word == END_ID]
    return EncodedSplit.of([START_ID, *ids[begin:end]] for begin, end in itertools.pairwise([0, *ends]))


def scored(reader: Reader, split: EncodedSplit, chosen: Chosen) -> np.ndarray:
    """(2, tokens): nats and ranks."""
    found = reader.predictions(split, chosen.rate, {"name": chosen})
    return np.concatenate([np.stack((nats_R, rank_R)) for *_, nats_R, rank_R in found], axis=1)


@pytest.mark.parametrize(("name", "context"), [*((name, "stream") for name in EVERY), (EVERY[-1], "sentence")])
def test_no_adaptation_sees_what_follows_token_1000(name: str, context, fivegram: KneserNey, monkeypatch) -> None:
    monkeypatch.setattr(reading, "SEGMENT", 30)
    split, tail, chosen = words(45, 5, longest=60), words(5, 6, longest=60), chosen_for(name)
    other = cut(split, 1000, tail)
    assert min(split.tokens, other.tokens) > 1100
    models = [model_of(seed).float() for seed in ([1, 2] if "ensemble" in name else [1])]
    reader = Reader(models, context, fivegram)
    ours, theirs = scored(reader, split, chosen), scored(reader, other, chosen)
    assert (ours[:, :1000] == theirs[:, :1000]).all()
    assert (ours[0, 1000:1100] != theirs[0, 1000:1100]).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(EVERY), st.sampled_from(["sentence", "stream"]), st.integers(0, 99), st.data())
def test_no_adaptation_sees_what_follows_any_token(fivegram, name: str, context, seed: int, data) -> None:
    split, tail = words(12, seed), words(6, seed + 100)
    token = data.draw(st.integers(1, split.tokens - 1))
    reader = Reader([model_of(seed), model_of(seed + 1)] if "ensemble" in name else [model_of(seed)], context, fivegram)
    ours, theirs = (scored(reader, text, chosen_for(name)) for text in (split, cut(split, token, tail)))
    assert ours[:, :token] == pytest.approx(theirs[:, :token], abs=1e-12)


def perplexity(reader: Reader, split: EncodedSplit, chosen: Chosen) -> float:
    return math.exp(scored(reader, split, chosen)[0].mean())


@pytest.mark.parametrize("name", EVERY)
def test_what_is_chosen_costs_on_validation_what_it_says_and_less_than_what_else_is_on_the_grid(
    name: str, fivegram: KneserNey, monkeypatch
) -> None:
    for constant, values in (("WINDOWS", (2, 5)), ("THETAS", (0.1, 1.0)), ("TEMPERATURES", (1.0, 1.5, 2.0))):
        monkeypatch.setattr(adaptation, constant, values)
    monkeypatch.setattr(adaptation, "TUNED_DYNAMICALLY", 60)
    reader = Reader([model_of(1), model_of(2)] if "ensemble" in name else [model_of(1)], "sentence", fivegram)
    valid = words(24, seed=8)
    chosen = reader.choose(valid, [name])[name]
    read = beginning(valid, 60) if "dynamic" in name else valid
    assert 55 < read.tokens <= 60 or read is valid
    assert perplexity(reader, read, chosen) == pytest.approx(chosen.valid_perplexity)
    others: list[dict[str, Any]] = []
    if "temperature" in name:
        others += [{"temperature": temperature} for temperature in (1.0, 1.5, 2.0)]
    if "cache" in name:
        others += [{"place": Place(window, theta)} for window in (2, 5) for theta in (0.1, 1.0)]
    if name == "dynamic":
        assert chosen.rate
        others += [{"rate": chosen.rate * factor} for factor in (0.5, 2.0)]
    for number in range(1, len(chosen.weights)):
        for moved in (-0.02, 0.02):
            weights = [chosen.weights[0] - moved, *chosen.weights[1:]]
            weights[number] += moved
            others += [{"weights": weights}] if min(weights) >= 0 else []
    assert others or name == "ensemble"
    for changes in others:
        assert perplexity(reader, read, replace(chosen, **changes)) >= chosen.valid_perplexity - 1e-4


@pytest.mark.parametrize(
    ("best", "tried"), [(0.4, [0.4, 0.8, 0.2]), (1.6, [0.4, 0.8, 1.6, 3.2]), (0.1, [0.4, 0.8, 0.2, 0.1, 0.05])]
)
def test_rates_are_tried_each_twice_the_one_before_or_half_until_one_costs_more(best, tried, monkeypatch) -> None:
    asked = []

    def measure(self: Reader, split: EncodedSplit, rate: float, parts: set[str]) -> Measured:
        asked.append(rate)
        cost = math.nan if rate > 3 else abs(math.log(rate / best))  # where it is too high, training diverges
        return Measured({1.0: np.array([math.exp(-cost)])}, {}, None)

    monkeypatch.setattr(Reader, "_measure", measure)
    chosen = Reader([model_of(1)], "stream").choose(words(3, 1), ["dynamic"])["dynamic"]
    assert chosen.rate == pytest.approx(best)
    assert asked == pytest.approx(tried)
