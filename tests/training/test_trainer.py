import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.model.batches import token_budget_batches
from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Sampler
from pipeline.model.packed import pack
from pipeline.model.streams import Windows, drawn_lengths
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.training.params import NEUTRAL
from pipeline.training.schedules import learning_rate
from pipeline.training.trainer import Trainer, chosen_device, validation_nats
from tests.training.conftest import (
    ONE_BATCH,
    SIZE,
    TRAIN,
    VALID,
    encode,
    fit,
    train_params,
    weights,
)

Make = Callable[..., LanguageModel]


def vector(model: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().double() for weight in model.parameters()])


@dataclass
class Steps:
    """What `LanguageModel.loss` was asked and answered, a value a step."""

    sentences: list[list[int]] = field(default_factory=list)
    words: list[list[int]] = field(default_factory=list)  # drawn for the sampled softmax
    masks: list[int] = field(default_factory=list)  # seeds of the generators
    nats: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    training: list[bool] = field(default_factory=list)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    seen, loss = Steps(), LanguageModel.loss

    def recorded(self, batch, sampler, step, precision, generator, carried):
        nats = loss(self, batch, sampler, step, precision, generator, carried)
        seen.sentences.append(sorted(batch.order))
        seen.words.append([] if sampler is None else sampler.draw(step).tolist())
        seen.masks.append(generator.initial_seed())
        seen.nats.append(nats.item())
        seen.tokens.append(len(batch.y_N))
        seen.training.append(self.training)
        return nats

    monkeypatch.setattr(LanguageModel, "loss", recorded)
    return seen


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.05), ("sgd", 2.0)])
@pytest.mark.parametrize("sampled_words", [None, 8])
def test_it_learns_with_both_optimizers_by_the_full_and_the_sampled_softmax(optimizer, rate, sampled_words, make_model):
    model = make_model(hidden_size=16)
    untrained = validation_nats(model, VALID, 40)
    records = fit(model, optimizer=optimizer, learning_rate=rate, sampled_words=sampled_words, epochs=6)
    assert records[-1].train_nats < records[0].train_nats
    assert records[-1].valid_nats < untrained - 0.8


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.02), ("sgd", 50.0)])
def test_a_row_of_the_history_says_what_happened_in_its_epoch(optimizer, rate, make_model, steps):
    records = fit(make_model(), optimizer=optimizer, learning_rate=rate, epochs=4, patience=4)
    params = train_params(optimizer=optimizer, learning_rate=rate)
    batches = len(steps.nats) // 4
    assert batches == len(token_budget_batches(TRAIN, 40, seed=1, epoch=1)) > 1
    for epoch, record in enumerate(records, start=1):
        of_epoch = slice((epoch - 1) * batches, epoch * batches)
        nats = np.average(steps.nats[of_epoch], weights=steps.tokens[of_epoch])
        assert record.epoch == epoch
        assert record.steps == epoch * batches
        assert record.learning_rate == learning_rate(params, record.steps - 1, 4 * batches, records[: epoch - 1])
        assert record.train_nats == pytest.approx(nats)
        assert record.valid_perplexity == math.exp(record.valid_nats)
        assert sum(steps.tokens[of_epoch]) == TRAIN.tokens
    if optimizer == "sgd":
        assert records[-1].learning_rate < rate  # so high a rate that the loss rose


def test_each_step_has_its_own_batch_words_and_masks_by_the_seed(make_model, steps):
    counts = np.bincount(TRAIN.ids, minlength=SIZE).tolist()
    for seed in (1, 2):
        fit(make_model(), seed=seed, sampled_words=8)
    batches = [
        batch for seed in (1, 2) for epoch in (1, 2, 3) for batch in token_budget_batches(TRAIN, 40, seed, epoch)
    ]
    assert steps.sentences == [sorted(batch) for batch in batches]
    assert steps.words == [Sampler(counts, 8, 0.5, seed).draw(step).tolist() for seed in (1, 2) for step in range(18)]
    assert len(set(steps.masks)) == 36
    assert all(steps.training)


@pytest.mark.parametrize("clip_norm", [1e6, 1e-3])
def test_a_step_goes_down_the_gradient_cut_to_clip_norm(clip_norm, make_model):
    model = make_model().double()
    before = vector(model)
    model.loss(pack(TRAIN, range(len(TRAIN)))).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    assert 1e-3 < gradient.norm() < 1e6
    fit(model, optimizer="sgd", learning_rate=0.5, clip_norm=clip_norm, batch_tokens=ONE_BATCH, epochs=1)
    cut = gradient * min(1.0, clip_norm / float(gradient.norm()))
    # torch divides by the norm plus 1e-6.
    torch.testing.assert_close(vector(model) - before, -0.5 * cut, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("clip_norm", [1e6, 0.02])
def test_numbers_of_the_gradient_are_cut_to_clip_value_once_its_norm_is(clip_norm, make_model):
    model = make_model().double()
    before = vector(model)
    model.loss(pack(TRAIN, range(len(TRAIN)))).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    gradient *= min(1.0, clip_norm / float(gradient.norm()))
    limit = float(gradient.abs().max()) / 3
    changes = {"clip_norm": clip_norm, "clip_value": limit, "batch_tokens": ONE_BATCH, "epochs": 1}
    fit(model, optimizer="sgd", learning_rate=0.5, **changes)
    expected = gradient.clamp(-limit, limit)
    assert not torch.equal(expected, gradient)
    torch.testing.assert_close(vector(model) - before, -0.5 * expected, rtol=1e-4, atol=1e-12)


def test_validation_is_the_mean_score_of_all_sentences_by_the_full_softmax_without_dropout(make_model):
    model = make_model(embedding_dim=5, dropout=0.5).train()
    nats = validation_nats(model, VALID, 7)
    scores = [model.score(pack(VALID, [sentence])).nats_N for sentence in range(len(VALID))]
    assert nats == pytest.approx(torch.cat(scores).mean().item(), rel=1e-6)
    # A model that learns next to nothing is validated as it is, however it is trained.
    (record,) = fit(model, learning_rate=1e-12, sampled_words=5, epochs=1)
    assert record.valid_nats == pytest.approx(nats, rel=1e-6)
    assert record.train_nats != pytest.approx(nats, rel=1e-2)


def test_the_listener_is_told_of_the_start_and_of_every_epoch(make_model, listener):
    model = make_model()
    records = fit(model, listener=listener)
    started, *ended = listener.told
    assert started == ("started", model.parameter_count(), TRAIN.tokens, False)
    assert [(name, record) for name, record, _, _ in ended] == [("epoch_ended", record) for record in records]
    for _, _, seconds, tokens_per_second in ended:
        assert seconds * tokens_per_second == pytest.approx(TRAIN.tokens)


def test_global_random_states_are_neither_used_nor_touched(make_model):
    trained = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state(), str(np.random.get_state())
        model = make_model(embedding_dim=5, dropout=0.3)
        fit(model, sampled_words=8)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert str(np.random.get_state()) == before[1]
        trained.append(weights(model))
    assert trained[0] == trained[1]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"epochs": 4},
        {"batch_tokens": 50},
        {"optimizer": "sgd"},
        {"learning_rate": 0.03},
        {"warmup": 0.5},
        {"weight_decay": 0.1},
        {"clip_norm": 0.01},
        {"sampled_words": None},
        {"sampled_words": 9},
        {"sampling_power": 0.0},
        {"precision": "bf16"},
        {"context": "stream"},
        {"betas": [0.8, 0.999]},
        {"betas": [0.9, 0.99]},
        {"locked_dropout_inputs": 0.2},
        {"locked_dropout_outputs": 0.2},
        {"dropped_words": 0.2},
        {"schedule": "linear"},
        {"schedule": "step", "decay_after": 1, "decay_factor": 2.0},
        {"clip_value": 0.01},
        {"locked_dropout_embedding": 0.2},
        {"locked_dropout_states": 0.2},
        {"dropped_recurrent_weights": 0.2},
        {"activation_regularization": 1.0},
        {"temporal_regularization": 1.0},
        {"average": "exponential", "average_decay": 0.9},
    ],
    ids=str,
)
def test_every_setting_counts(change: dict[str, Any], make_model):
    plain, changed = make_model(embedding_dim=5, dropout=0.3), make_model(embedding_dim=5, dropout=0.3)
    fit(plain, sampled_words=8)
    settings: dict[str, Any] = {"sampled_words": 8, **change}
    fit(changed, **settings)
    assert weights(plain) != weights(changed)


def test_without_dropout_and_sampling_only_the_batches_depend_on_the_seed(make_model):
    split = encode([[2, 3, 4, 5, 2, 3, 4, 5]])  # nothing that occurs once
    models = {seed: make_model() for seed in (1, 2)}
    for seed, model in models.items():
        fit(model, split, split, seed=seed)
    assert weights(models[1]) == weights(models[2])


@pytest.mark.parametrize(
    ("changes", "gpu", "device"),
    [
        ({}, True, "cpu"),  # exact
        ({"precision": "auto"}, True, "cuda"),
        ({"precision": "auto"}, False, "cpu"),
        ({"precision": "fp32", "device": "cpu"}, True, "cpu"),
        ({"precision": "bf16", "device": "cuda"}, True, "cuda"),
    ],
)
def test_where_a_model_is_trained(changes: dict, gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert chosen_device(train_params(**changes)).type == device


def test_a_gpu_that_is_not_there_is_missed(make_model) -> None:
    with pytest.raises(
        InputError, match=r"train\.device is cuda, but torch finds no GPU that it can use; set it to auto"
    ):
        fit(make_model(), precision="fp32", device="cuda")


@pytest.mark.parametrize("fast", [True, False])
def test_emulated_bf16_is_warned_of(fast: bool, make_model, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    fit(make_model(), precision="bf16", epochs=1)
    told = "warning: this processor emulates bf16, which takes 12 to 30 times as long as fp32"
    assert (told in capsys.readouterr().err.splitlines()) is not fast


def test_plain_lines_tell_the_progress_where_there_is_no_terminal(make_model, capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    records = fit(make_model(), epochs=2)
    shown = capsys.readouterr()
    assert shown.out == ""
    first, *epochs, last = shown.err.splitlines()
    assert first == f"training on cpu with {torch.get_num_threads()} threads"
    for record, line in zip(records, epochs, strict=True):
        figures = (
            f"training loss {record.train_nats:.3f} nats/token, validation perplexity {record.valid_perplexity:.2f}"
        )
        assert re.fullmatch(rf"epoch {record.epoch} of 2: {re.escape(figures)}, [\d,]+ tokens/s", line)
    total = 2 * TRAIN.tokens
    loss = f"epoch 2 of 2, loss {records[-1].train_nats:.3f}"
    assert re.fullmatch(rf"train: {total} of {total} tokens, [\d,]+ tokens/s, {re.escape(loss)}", last)


def test_where_no_word_is_unknown_it_learns_to_expect_some(make_model):
    once = encode([[2, 3, 4, 2, 3, 4, word] for word in range(5, SIZE - 1)])
    twice = encode([[2, 3, 4, 2, 3, 4, word] for word in range(5, SIZE - 1)] * 2)
    new = encode([[2, 3, 4, 2, 3, 4, SIZE - 1]])  # the last id is UNKNOWN_TOKEN
    found = []
    for train in (once, twice):
        model = make_model(hidden_size=16)
        fit(model, train, new, epochs=20, patience=20)
        found.append(validation_nats(model, new, 40))
    assert found[0] < found[1] - 0.1


def test_the_time_that_is_told_is_that_of_all_steps_and_validations_and_nothing_changes(make_model, monkeypatch):
    model = make_model()
    before, clock = weights(model), iter(range(10_000))
    monkeypatch.setattr("pipeline.training.trainer.time.perf_counter", lambda: next(clock) / 10)  # 0.1 s a batch
    counts = np.bincount(TRAIN.ids, minlength=SIZE).tolist()
    trainer = Trainer(model, TRAIN, VALID, counts, train_params(epochs=4))
    batches = len(token_budget_batches(TRAIN, 40, 1, 1)) + len(token_budget_batches(VALID, 40, 0, 0))
    assert trainer.expected_seconds() == pytest.approx(4 * batches * 0.1)
    assert weights(model) == before


def chained(sentences: int) -> EncodedSplit:
    """Sentences of a word or two, each word told by the last one of the sentence before."""
    words = np.arange(sentences) % 12 + 2
    return encode([[word] if word % 3 else [word, word] for word in words.tolist()])


def test_what_the_sentence_before_says_is_learned_from_a_stream_alone(make_model):
    split, found = chained(120), {}
    for context in ("sentence", "stream"):
        model = make_model(hidden_size=16)
        records = fit(model, split, split, context=context, streams=4, bptt=10, epochs=20, patience=20)
        found[context] = records[-1].valid_perplexity
        assert records[-1].valid_nats == pytest.approx(validation_nats(model, split, 40, context=context), rel=1e-6)
    # Of two or three tokens a sentence the first is one of twelve: in itself 12 ** (1 / 2.33), 2.9.
    assert found["sentence"] > 2.7
    assert found["stream"] < 1.6


def test_a_stream_goes_on_from_window_to_window_and_begins_anew_with_the_epoch(make_model, monkeypatch):
    windows, rates, loss = [], [], LanguageModel.loss

    def recorded(self, batch, sampler, step, precision, generator, carried):
        started = carried.states and carried.states[0].clone()
        nats = loss(self, batch, sampler, step, precision, generator, carried)
        windows.append((batch, started, carried.states[0]))
        return nats

    monkeypatch.setattr(LanguageModel, "loss", recorded)
    monkeypatch.setattr("pipeline.training.trainer.take_step", lambda of: rates.append(of.param_groups[0]["lr"]))
    params = train_params(context="stream", streams=3, bptt=7, epochs=2)
    records = fit(make_model(), context="stream", streams=3, bptt=7, epochs=2)
    in_first = records[0].steps
    assert [record.steps for record in records] == [in_first, len(windows)]
    for epoch, of_epoch in ((1, windows[:in_first]), (2, windows[in_first:])):
        drawn = list(Windows(TRAIN, 3, drawn_lengths(7, 1, epoch)))
        assert [batch.y_N.tolist() for batch, _, _ in of_epoch] == [batch.y_N.tolist() for batch in drawn]
        assert sum(len(batch.y_N) for batch, _, _ in of_epoch) == TRAIN.tokens
        assert of_epoch[0][1] is None
        for (_, _, ended), (_, started, _) in itertools.pairwise(of_epoch):
            assert torch.equal(started, ended)
            assert not started.requires_grad
    expected = [
        learning_rate(params, step, len(windows), []) * len(batch.batch_sizes) / 7
        for step, (batch, _, _) in enumerate(windows)
    ]
    assert rates == pytest.approx(expected)
    assert len({len(batch.batch_sizes) for batch, _, _ in windows}) > 3


def test_what_is_not_used_is_not_recorded():
    assert not {"context", "streams", "bptt", *NEUTRAL} & train_params().model_dump().keys()
    used = train_params(dropped_words=0.1, betas=[0.9, 0.99], sampled_words=None).model_dump()
    assert (used["dropped_words"], used["betas"], used["sampled_words"]) == (0.1, [0.9, 0.99], None)
    assert {"context": "stream", "streams": 4, "bptt": 8}.items() <= train_params(context="stream").model_dump().items()
