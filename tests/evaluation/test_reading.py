"""Splits read in their order; that what is read is the equations' is in test_adaptation.py."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation import reading
from pipeline.evaluation.adaptation import Chosen, Place, Reader
from pipeline.evaluation.inside import word_scores
from pipeline.evaluation.reading import ReadOnce
from pipeline.inference import predictor as predictor_module
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.model.language_model import LanguageModel
from pipeline.model.streams import Carried, Windows
from pipeline.text.vocabulary import END_ID
from tests.conftest import saved_model
from tests.evaluation.test_adaptation import model_of, words


def test_parts_of_a_text_that_are_read_in_parallel_come_in_its_order_each_as_from_its_own_beginning() -> None:
    split, model = words(30, seed=3), model_of(1)
    blocks = list(reading.read(model, split, "stream", streams=4))
    assert torch.cat([block.y_R for block in blocks]).tolist() == np.delete(split.ids, split.offsets[:-1]).tolist()
    text = torch.tensor([END_ID, *np.delete(split.ids, split.offsets[:-1]).tolist()])
    logits_NC, longer = torch.cat([block.logits_RC for block in blocks]), split.tokens % 4
    starts = [stream * (split.tokens // 4) + min(stream, longer) for stream in range(5)]
    for begin, end in itertools.pairwise(starts):
        state = None
        for at in range(begin, end):
            logits_1C, state = model.next_logits(text[at : at + 1], state)
            assert logits_NC[at].tolist() == pytest.approx(logits_1C[0].tolist(), abs=1e-9)


class Counted(ReadOnce):
    """How many batches are run."""

    runs = 0

    def _run(self, *arguments: Any, **options: Any) -> Any:
        self.runs += 1
        return super()._run(*arguments, **options)


def figures_of(model: LanguageModel, split) -> list:
    """What a stage finds with one reading after another: scores, words, and adapted scores."""
    predictor = Predictor(replace(saved_model(model), train={"context": "stream"}))
    sums = score_split(predictor, split, "test").sentences
    every = np.arange(len(split))
    found = word_scores(model, predictor.passes(split), split, every, every)
    chosen = {"cache": Chosen(("cache",), place=Place(4, 0.6), weights=(0.7, 0.3))}
    adapted = Reader([model], "stream").score(split, chosen)["cache"].sentences
    return [sums.nats, found.nats, found.likeliest, adapted.nats]


@pytest.mark.parametrize(("kept", "runs"), [(1 << 20, 5), (10 * 5 * 8, 1 + 3 * 4), (0, 3 * 5)])
def test_a_text_is_run_once_as_far_as_its_states_are_kept_and_nothing_changes(kept, runs, monkeypatch) -> None:
    monkeypatch.setattr(reading, "READ_TOKENS", 10)
    monkeypatch.setattr(predictor_module, "BATCH_TOKENS", 10)
    monkeypatch.setattr(reading, "KEPT_BYTES", kept)
    split = words(9, seed=4)
    assert 40 < split.tokens <= 50  # five windows
    plain, once = model_of(1), Counted(model_of(1))
    for ours, theirs in zip(figures_of(once, split), figures_of(plain, split), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert once.runs == runs


def test_other_words_are_run_and_a_model_that_learns_keeps_nothing() -> None:
    split, once = words(30, seed=3), Counted(model_of(1))
    for context in ("stream", "sentence"):
        for other in (split, words(30, seed=5)):
            ours, theirs = (list(reading.read(model, other, context)) for model in (once, model_of(1)))
            assert torch.equal(torch.cat([b.h_RH for b in ours]), torch.cat([b.h_RH for b in theirs]))
    runs = once.runs
    ours, theirs = (list(reading.read_dynamically(model, split, "stream", 0.5)) for model in (once, model_of(1)))
    assert torch.equal(torch.cat([b.logits_RC for b in ours]), torch.cat([b.logits_RC for b in theirs]))
    assert once.runs == runs
    assert not isinstance(once.__deepcopy__({}), ReadOnce)


def test_the_same_words_after_other_states_are_run_again() -> None:
    plain, once = model_of(1), Counted(model_of(1))
    batch = Windows(words(3, seed=5), 1, itertools.repeat(100))[0]
    for _ in range(2):
        for before in (None, words(5, seed=6), words(5, seed=7)):
            found = []
            for model in (plain, once):
                carried = Carried()
                if before is not None:
                    model.read(Windows(before, 1, itertools.repeat(100))[0], carried)
                with torch.no_grad():
                    h_NH = model.read(batch, carried)
                assert carried.states is not None
                found.append((h_NH, *carried.states[0]))
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
    assert once.runs == 3 + 4  # of the batch, and of what is before it, with gradients, each time


def test_the_windows_of_a_text_are_those_of_a_predictor() -> None:
    assert reading.READ_TOKENS == predictor_module.BATCH_TOKENS  # or a text is run twice
