"""A split as one running text: nothing is left out, nothing read twice, and the state goes on where the window ends."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.language_model import LanguageModel
from pipeline.model.streams import Carried, Windows, drawn_lengths, pieces, running_text, window_ends, windows_in_all
from pipeline.text.encoded import EncodedSplit
from tests.conftest import model_params
from tests.model import reference

SIZE = 15


def split_of(sentences: int, seed: int = 0) -> EncodedSplit:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 9, sentences)
    return EncodedSplit.of([0, *generator.integers(2, SIZE, length), 1] for length in lengths)


def by_stream(windows: Windows) -> list[tuple[list[int], list[int]]]:
    """What goes in and what is predicted of each stream, window after window."""
    found: list[tuple[list[int], list[int]]] = []
    for batch in windows:
        found += [([], []) for _ in range(batch.batch_sizes[0] - len(found))]
        row = 0
        for size in batch.batch_sizes:
            for stream in range(size):
                found[stream][0].append(int(batch.x_N[row + stream]))
                found[stream][1].append(int(batch.y_N[row + stream]))
            row += size
        assert row == len(batch.x_N) == len(batch.y_N)
    return found


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 12))
def test_streams_end_to_end_are_the_text_each_token_once(sentences: int, streams: int, steps: int) -> None:
    split = split_of(sentences)
    read = by_stream(Windows(split, streams, itertools.repeat(steps)))
    text = [int(id_) for start, end in itertools.pairwise(split.offsets) for id_ in split.ids[start + 1 : end]]
    assert [id_ for _, targets in read for id_ in targets] == text
    assert [id_ for inputs, _ in read for id_ in inputs] == [1, *text[:-1]]  # the first follows a SENTENCE_END
    assert len(read) == min(streams, len(text))
    lengths = [len(targets) for _, targets in read]
    assert max(lengths) - min(lengths) <= 1
    assert running_text(split).tolist() == [1, *text]


def test_windows_are_as_long_as_in_awd_lstm() -> None:
    """`bptt` 70: N(70, 5), of each twentieth N(35, 5), cut to whole numbers, none below 5."""
    drawn = list(itertools.islice(drawn_lengths(70, seed=1, epoch=1), 4000))
    short, long = ([length for length in drawn if (length < 52) is half] for half in (True, False))
    assert len(short) / len(drawn) == pytest.approx(0.05, abs=0.01)
    assert (np.mean(long), np.std(long)) == (pytest.approx(69.5, abs=0.3), pytest.approx(5, abs=0.3))
    assert (np.mean(short), np.std(short)) == (pytest.approx(34.5, abs=1.2), pytest.approx(5, abs=1))
    assert min(itertools.islice(drawn_lengths(6, seed=1, epoch=1), 100)) == 5
    again, other_epoch, other_seed = (
        list(itertools.islice(drawn_lengths(70, *key), 4000)) for key in ((1, 1), (1, 2), (2, 1))
    )
    assert again == drawn
    assert len({tuple(drawn), tuple(other_epoch), tuple(other_seed)}) == 3
    assert window_ends(20, iter([7, 8, 9, 10])) == [7, 15, 20]
    epochs = [len(Windows(split_of(60), 4, drawn_lengths(8, 3, epoch))) for epoch in (1, 2, 3)]
    assert windows_in_all(split_of(60).tokens, 4, 8, seed=3, epochs=3) == sum(epochs)


def transcribed(model: LanguageModel, ids: list[int]) -> list[float]:
    """-ln P of each id but the first, read one after another from state zero by the equations, in float64."""
    w = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    cell, found = model.params.cell, []
    zero = np.zeros(model.params.hidden_size)
    states = [(zero, zero) if cell == "lstm" else zero for _ in model.layers]
    for word, target in itertools.pairwise(ids):
        x = w["E"][word]
        for k, state in enumerate(states):
            gates = reference.gate_weights(cell, w[f"layers.{k}.U"], w[f"layers.{k}.W"], w[f"layers.{k}.b"])
            xs, states[k] = reference.run(cell, [x], state, gates)
            x = xs[0]
        found.append(-math.log(reference.softmax(w["V"] @ x + w["c"])[target]))
    return found


def build(cell: str) -> LanguageModel:
    shape = model_params(cell=cell, hidden_size=6, embedding_dim=5, layers=2)
    return LanguageModel(shape, SIZE, torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("streams", [1, 4])
def test_windows_with_the_state_carried_are_the_text_read_word_by_word(cell: str, streams: int) -> None:
    model, split = build(cell), split_of(30)
    assert split.tokens % 4  # so the last step of four streams has less than four words
    nats_N = []
    carried = Carried()
    for batch in Windows(split, streams, itertools.cycle((3, 1, 7))):
        before = None if carried.states is None else Carried(carried.states)
        scored = model.score(batch, carried).nats_N
        assert model.loss(batch, carried=before or Carried()).item() == pytest.approx(scored.mean().item(), rel=1e-12)
        row = 0
        for size in batch.batch_sizes:
            nats_N.append(scored[row : row + size].tolist())
            row += size
    text, steps = running_text(split).tolist(), split.tokens // streams
    longer, start = split.tokens % streams, 0
    for stream in range(streams):
        end = start + steps + (stream < longer)
        expected = transcribed(model, text[start : end + 1])
        assert [step[stream] for step in nats_N if stream < len(step)] == pytest.approx(expected, rel=1e-10)
        start = end


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_gradient_stops_where_the_window_begins(cell: str) -> None:
    model, windows = build(cell), Windows(split_of(12), 3, itertools.repeat(5))
    carried = Carried()
    model.loss(windows[0], carried=carried)
    loss = model.loss(windows[1], carried=carried)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    # The same window, its first states given as numbers: nothing of the first window is behind it.
    again = Carried()
    with torch.no_grad():
        model.loss(windows[0], carried=again)
    given = torch.autograd.grad(model.loss(windows[1], carried=again), list(model.parameters()))
    for mine, alone in zip(gradients, given, strict=True):
        torch.testing.assert_close(mine, alone, rtol=0, atol=0)
    # Which is not the gradient by all of both.
    whole = LanguageModel.hidden(model, windows[0].x_N, windows[0].batch_sizes)[1]
    h_NH, _ = model.hidden(windows[1].x_N, windows[1].batch_sizes, whole)
    logits = h_NH @ model.output_weight.t() + model.get_parameter("c")
    uncut = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, windows[1].y_N), list(model.parameters()))
    assert any(not torch.allclose(mine, other, rtol=1e-3) for mine, other in zip(gradients, uncut, strict=True))


@given(st.integers(1, 20), st.integers(2, 40))
def test_pieces_are_the_text_cut(sentences: int, ids: int) -> None:
    split = split_of(sentences)
    cut = pieces(split, ids)
    assert cut.ids.tolist() == running_text(split).tolist()
    assert set(np.diff(cut.offsets)[:-1].tolist()) <= {ids}
    assert 2 <= np.diff(cut.offsets)[-1] <= ids + 1
