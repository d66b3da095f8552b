import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.evaluation import inside
from pipeline.evaluation.gradient_flow import gradient_norms
from pipeline.evaluation.inside import look_inside, word_scores, write_inside
from pipeline.inference import predictor as predictor_module
from pipeline.inference.predictor import Predictor
from pipeline.model.language_model import LanguageModel
from tests.conftest import saved_model

SENTENCES = [[5, 9, 3, 20, 7], [2], [4, 6, 8, 10, 12, 14, 16]]


@pytest.mark.parametrize("context", ["sentence", "stream"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_each_word_costs_what_one_step_after_another_gives(cell, context, make_model, encode, monkeypatch) -> None:
    monkeypatch.setattr(inside, "LOGIT_ROWS", 3)
    monkeypatch.setattr(predictor_module, "BATCH_TOKENS", 4)  # several batches, between which a text goes on
    model, split = make_model(cell), encode(SENTENCES)
    predictor = Predictor(replace(saved_model(model), train={"context": context}))
    found = word_scores(model, predictor.passes(split), split, np.array([0, 2]), np.array([2]))
    row, state = 0, None
    for number, sentence in enumerate(SENTENCES):
        state = state if context == "stream" else None
        start = 1 if context == "stream" else 0
        for word, target in zip([start, *sentence], [*sentence, 1], strict=True):
            logits, state = model.next_logits(torch.tensor([word]), state)
            if number == 1:
                continue  # read, where a text is, but not looked at
            nats = -logits[0].log_softmax(0)
            assert (found.sentence[row], found.target[row]) == (number, target)
            assert found.nats[row] == pytest.approx(nats[target].item(), abs=1e-5)
            best = nats.argsort()[:5]
            assert found.likeliest[row].tolist() == (best.tolist() if number == 2 else [-1] * 5)
            if number == 2:
                assert found.likeliest_nats[row].tolist() == pytest.approx(nats[best].tolist(), abs=1e-4)
            row += 1
    assert row == len(found.nats)


def test_units_neighbours_and_first_gradients_are_those_of_the_model(make_model, encode, vocabulary, tmp_path) -> None:
    model = make_model("gru")
    split = encode([SENTENCES[0], SENTENCES[2]])
    found = look_inside(model, vocabulary, split, split, seed=7)
    write_inside(tmp_path / "inside.json", found)
    assert json.loads((tmp_path / "inside.json").read_text())["units"] == found["units"]
    first = LanguageModel(model.params, len(vocabulary), torch.Generator().manual_seed(7)).eval()
    assert found["gradient_at_start"] == pytest.approx(gradient_norms(first, split), rel=1e-5)
    state, seen = None, []
    for word in [0, *SENTENCES[2]]:
        _, state = model.next_logits(torch.tensor([word]), state)
        seen.append(state[-1][0].detach().numpy())
    numbers = found["unit_numbers"]
    assert sorted(numbers) == list(range(8))
    assert np.array(found["units"]["1"]) == pytest.approx(100 * np.array(seen)[:, numbers], abs=0.51)
    table = model.layers[0].U[2 : len(vocabulary) - 1].detach()
    unit = table / table.norm(dim=1, keepdim=True)
    for word, near in found["neighbours"].items():
        cosine = unit @ unit[int(word) - 2]
        cosine[int(word) - 2] = -2
        assert [id_ for id_, _ in near] == (cosine.argsort(descending=True)[:5] + 2).tolist()
        assert [value for _, value in near] == pytest.approx(cosine.sort(descending=True)[0][:5].tolist(), abs=0.006)
    assert len(found["neighbours"]) > 5


def test_without_a_sentence_that_can_be_shown_there_are_no_units(make_model, encode, vocabulary) -> None:
    split = encode([[2], [3]])
    found = look_inside(make_model(), vocabulary, split, split, seed=1)
    assert (found["unit_numbers"], found["units"]) == ([], {})
