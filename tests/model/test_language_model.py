import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.model.folder import save_model
from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Sampler
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.text.encoded import EncodedSplit
from tests.conftest import model_params, saved_model
from tests.model import reference

CELL_NAMES = ["rnn", "lstm", "gru"]


def build(vocabulary_size: int = 30, seed: int = 1, **changes) -> LanguageModel:
    return LanguageModel(model_params(**changes), vocabulary_size, torch.Generator().manual_seed(seed))


def random_batch(sentences: int, longest: int, vocabulary_size: int, seed: int = 0) -> PackedBatch:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest, sentences)
    parts = [[0, *generator.integers(2, vocabulary_size, n), 1] for n in lengths]
    return pack(EncodedSplit.of(parts), range(sentences))


SHAPES = [
    {},
    {"embedding_dim": 7},
    {"layers": 2},
    {"embedding_dim": 12, "tie_weights": True, "layers": 3},
    {"embedding_dim": 12, "tie_weights": True, "layers": 3, "lower_sizes": [9, 20]},
    {"bias": False, "output_bias": False},
]


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_model_equals_a_transcription_of_the_equations(cell, shape):
    model = build(cell=cell, **shape).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("b", "c")):
                parameter.uniform_(-1, 1)
    w = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    batch = random_batch(6, 8, 30)
    scores = model.score(batch)
    _, sequence_N = steps_and_sequences(batch.batch_sizes)
    for b in range(len(batch.order)):
        ids = batch.x_N.numpy()[sequence_N == b]
        xs = w["E"][ids] if "E" in w else np.eye(30)[ids]
        for k in range(len(model.layers)):
            gates = reference.gate_weights(cell, w[f"layers.{k}.U"], w[f"layers.{k}.W"], w.get(f"layers.{k}.b"))
            zero = np.zeros(len(w[f"layers.{k}.W"]))
            xs, _ = reference.run(cell, xs, (zero, zero) if cell == "lstm" else zero, gates)
        V = w["E"] if shape.get("tie_weights") else w["V"]
        for n, s in zip(np.flatnonzero(sequence_N == b), xs, strict=True):
            p = reference.softmax(V @ s + w.get("c", 0))
            y = int(batch.y_N[n])
            assert scores.nats_N[n].item() == pytest.approx(-math.log(p[y]), rel=1e-10)
            assert scores.rank_N[n].item() == (p > p[y]).sum()


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_one_step_after_another_gives_the_same_as_whole_sentences(cell, shape):
    model = build(cell=cell, **shape)
    batch = random_batch(1, 12, 30)
    state = None
    for n in range(len(batch.x_N)):
        logits_BC, state = model.next_logits(batch.x_N[n : n + 1], state)
        nats = torch.nn.functional.cross_entropy(logits_BC, batch.y_N[n : n + 1])
        assert nats.item() == pytest.approx(model.score(batch).nats_N[n].item(), rel=1e-4)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_a_sentence_in_two_pieces_with_the_state_between_is_the_whole_sentence(cell):
    model = build(cell=cell, layers=2, lower_sizes=[7])
    x_N = torch.tensor([0, 5, 9, 4, 7])
    whole, last = model.hidden(x_N, (1,) * 5)
    first, state = model.hidden(x_N[:2], (1,) * 2)
    second, again = model.hidden(x_N[2:], (1,) * 3, state)
    torch.testing.assert_close(torch.cat((first, second)), whole)
    torch.testing.assert_close(again, last)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_loss_is_the_mean_of_the_scores_and_sampling_replaces_it(cell):
    model = build(cell=cell)
    batch = random_batch(6, 8, 30)
    full = model.loss(batch).item()
    assert full == pytest.approx(model.score(batch).nats_N.mean().item(), rel=1e-5)
    counts = [1] * 30
    assert model.loss(batch, Sampler(counts, 30, 0.5, seed=1), step=3).item() == pytest.approx(full, rel=1e-5)
    some = Sampler(counts, 5, 0.5, seed=1)
    assert model.loss(batch, some, step=3).item() != pytest.approx(full, rel=1e-5)
    assert model.loss(batch, some, step=3).item() == model.loss(batch, some, step=3).item()


def test_the_notes_plain_rnn_has_1610000_parameters():
    notes = model_params(cell="rnn", hidden_size=100, bias=False, output_bias=False)
    assert LanguageModel(notes, 8000).parameter_count() == 1_610_000


def test_parameter_counts_of_the_other_cells():
    C, H = 30, 12
    assert build(cell="lstm").parameter_count() == 4 * (C * H + H * H + H) + C * H + C
    assert build(cell="gru", embedding_dim=7).parameter_count() == C * 7 + 3 * (7 * H + H * H + H) + C * H + C
    assert build(cell="rnn", embedding_dim=H, tie_weights=True).parameter_count() == C * H + 2 * H * H + H + C


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("embedding_dim", [None, 100])
def test_an_untrained_model_knows_nothing(cell, embedding_dim):
    model = build(8000, cell=cell, hidden_size=100, embedding_dim=embedding_dim)
    assert model.loss(random_batch(40, 30, 8000)).item() == pytest.approx(math.log(8000), abs=0.05)


@pytest.mark.parametrize(
    ("setting", "one_hot", "embedded"), [(None, 12**-0.5, 9**-0.5), ("incoming", 40**-0.5, 40**-0.5), (0.3, 0.3, 0.3)]
)
def test_weights_start_evenly_within_their_bounds(setting, one_hot, embedded):
    bounds = {
        "E": (build(40, lookup_init=setting, embedding_dim=9), embedded),
        "layers.0.U": (build(40, lookup_init=setting), one_hot),
        "layers.1.U": (build(40, lookup_init=setting, layers=2), 12**-0.5),
        "layers.0.W": (build(40, lookup_init=setting), 12**-0.5),
        "V": (build(40, lookup_init=setting), 12**-0.5),
    }
    for name, (model, bound) in bounds.items():
        weight = model.get_parameter(name).detach()
        assert bound * 0.9 < weight.abs().max() <= bound, name
        assert weight.abs().mean().item() == pytest.approx(bound / 2, rel=0.15), name
        assert (model.get_parameter("layers.0.b") == 0).all()
        assert (model.get_parameter("c") == 0).all()


def test_all_weights_start_within_one_bound_where_it_is_set():
    shape = {"embedding_dim": 9, "layers": 2, "lower_sizes": [30]}
    for lookup_init, bound in ((None, 0.05), ("incoming", 40**-0.5), (0.3, 0.3)):
        model = build(40, weight_init=0.05, lookup_init=lookup_init, **shape)
        for name, weight in model.named_parameters():
            largest = 0.0 if name.endswith(("b", "c")) else bound if name == "E" else 0.05
            assert largest * 0.9 <= weight.abs().max() <= largest, name
    one_hot = build(40, weight_init=0.05).get_parameter("layers.0.U")
    assert 0.045 < one_hot.abs().max() <= 0.05


def test_awd_lstm_has_the_size_of_the_published_one():
    """Merity, Keskar and Socher 2017: 24M on Penn Treebank; torch's LSTM has two biases, which add up."""
    shape = {"hidden_size": 400, "embedding_dim": 400, "layers": 3, "lower_sizes": [1150, 1150], "tie_weights": True}
    count = LanguageModel(model_params(**shape), 10_000).parameter_count()
    assert count == 24_221_600 - 4 * (1150 + 1150 + 400)


def test_with_an_embedding_the_cell_counts_the_embedding_as_incoming():
    U = build(40, embedding_dim=100).get_parameter("layers.0.U")
    assert 0.09 < U.abs().max() <= 0.1


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_each_cell_learns_a_hundred_sentences_by_heart(cell):
    batch = random_batch(100, 12, 60)
    # Sentences that start alike cannot all be foretold; what is learnt is everything after the first words.
    model = build(60, cell=cell, hidden_size=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.0)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert math.exp(model.loss(batch).item()) < 2


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_the_same_seed_trains_the_same_bytes(cell, tmp_path: Path):
    def train(folder: Path) -> bytes:
        model = build(cell=cell, embedding_dim=12, tie_weights=True, layers=2, dropout=0.3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        sampler = Sampler([1] * 30, 10, 0.5, seed=1)
        for step in range(5):
            optimizer.zero_grad()
            masks = torch.Generator().manual_seed(step)
            model.loss(random_batch(8, 9, 30, seed=step), sampler, step, generator=masks).backward()
            optimizer.step()
        save_model(saved_model(model), folder)
        return (folder / "model.safetensors").read_bytes()

    assert train(tmp_path / "one") == train(tmp_path / "two")


def test_dropout_acts_in_training_only_and_keeps_the_mean():
    model = build(embedding_dim=12, dropout=0.5)
    batch = random_batch(50, 20, 30)
    model.train()
    h_NH, _ = model.hidden(batch.x_N, batch.batch_sizes, generator=torch.Generator().manual_seed(1))
    again, _ = model.hidden(batch.x_N, batch.batch_sizes, generator=torch.Generator().manual_seed(1))
    assert torch.equal(h_NH, again)
    assert (h_NH == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    model.eval()
    whole, _ = model.hidden(batch.x_N, batch.batch_sizes)
    assert (whole != 0).all()
    ones = model.train()._dropped(torch.ones(400, 400), torch.Generator().manual_seed(1))
    assert ones.mean().item() == pytest.approx(1.0, abs=0.02)
    assert sorted(ones.unique().tolist()) == [0.0, 2.0]


def test_the_tutorials_trained_model_gives_the_tutorials_probabilities(shared_data: Path):
    trained = np.load(shared_data / "wildml-rnn-h50.npz")
    model = LanguageModel(model_params(cell="rnn", hidden_size=50, bias=False, output_bias=False), 8000)
    model.load_state_dict(
        {
            "layers.0.U": torch.from_numpy(trained["U"].T.copy()),
            "layers.0.W": torch.from_numpy(trained["W"].T.copy()),
            "V": torch.from_numpy(trained["V"]),
        }
    )
    x = [0, 51, 27, 16, 10, 856, 53, 25, 34, 69]
    U, W, V = (trained[name].astype(np.float64) for name in "UWV")
    s, expected = np.zeros(50), []
    for word in x:
        s = np.tanh(U[:, word] + W @ s)
        expected.append(reference.softmax(V @ s))
    h_NH, _ = model.hidden(torch.tensor(x), (1,) * len(x))
    whole = torch.softmax(h_NH @ model.output_weight.t(), 1)
    np.testing.assert_allclose(whole.detach().numpy(), expected, rtol=2e-4, atol=1e-9)
    state, steps = None, []
    for word in x:
        logits_BC, state = model.next_logits(torch.tensor([word]), state)
        steps.append(torch.softmax(logits_BC[0], 0).numpy())
    np.testing.assert_allclose(steps, expected, rtol=2e-4, atol=1e-9)
    # Exact but for the rounding of float32.
    exact, _ = model.double().hidden(torch.tensor(x), (1,) * len(x))
    probabilities = torch.softmax(exact @ model.output_weight.t(), 1).detach().numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-10)
