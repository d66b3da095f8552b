"""What the tutorial says in numbers, measured on the trained models: docs/tutorial/measured.json.

Each function measures one claim of docs/tutorial.md, in seconds, with the exact arithmetic of the stages wherever the
pipeline has it. Shape suffixes: N rows of a packed batch, B sentences, T steps, H hidden units, C words.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.evaluation.gradient_flow import LAGS, gradient_norms
from pipeline.evaluation.results import read_metrics
from pipeline.inference.generation import suggest
from pipeline.model.arithmetic import product, sigmoid
from pipeline.model.batches import token_budget_batches
from pipeline.model.cells import CELLS, GATES
from pipeline.model.folder import SavedModel, load_model
from pipeline.model.language_model import LanguageModel, Layer
from pipeline.model.output import cross_entropy
from pipeline.model.packed import pack, previous_rows
from pipeline.model.recurrence import run_layer
from pipeline.params import Params
from pipeline.runtime.paths import ENCODED, EVALUATION, MODELS, REPORT, VOCABULARY
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import END_ID, START_ID
from pipeline.training.history import read_history

TAUGHT_CELLS = ("rnn", "lstm", "gru")  # the cells of params.yaml that the tutorial is about
SHOWN_SENTENCE = "the function returns a new array ."
SHOWN_BEGINNING = "the function returns the"
LONG_SENTENCE = 10_000  # words in a row
SENTENCES_LOOKED_AT = 300  # test sentences, where that many tell enough
SATURATED = 0.99
FIRST_STEPS, STEP_TOKENS = 40, 400  # of training, to compare starts
STEPS_BACK = (1, 2, 4, 8, 16)  # steps of truncated backpropagation


def inputs() -> list[Path]:
    """What is measured, as dvc.lock names it."""
    files = [
        MODELS / name / file for name in TAUGHT_CELLS for file in ("model.safetensors", "config.json", "history.csv")
    ]
    files += [
        EVALUATION / name / file
        for name in TAUGHT_CELLS
        for file in ("gradient_flow.csv", "samples.txt", "metrics.json")
    ]
    baselines = EVALUATION / "baselines" / "metrics.json"
    return [*files, baselines, REPORT, VOCABULARY, *(ENCODED / split for split in SPLIT_NAMES)]


SPLIT_NAMES = ("train", "valid", "test")


def measured(params: Params) -> dict[str, Any]:
    """All numbers, by topic; floats with six digits."""
    models = {name: load_model(MODELS / name) for name in TAUGHT_CELLS}
    test = load_split(ENCODED / "test")
    some = _first(test, SENTENCES_LOOKED_AT)
    numbers = {
        "params": {
            "hidden_size": params.cell("rnn").model.hidden_size,
            "embedding_dim": params.cell("gru").model.embedding_dim,
        },
        "corpus": _corpus(params, models["rnn"]),
        "example": {name: _example(saved) for name, saved in models.items()},
        "one_hot": _one_hot(models["rnn"].model, test),
        "long": _long_sentence(models["rnn"].model, test),
        "one_unit": _one_unit(models["rnn"].model, some),
        "start": _starts(params, models["rnn"].model, some),
        "check": _gradient_check(),
        "truncated": {name: _truncated(saved.model, test) for name, saved in models.items()},
        "flow": {name: _flow(params, name, saved.model, test) for name, saved in models.items()},
        "gates": {name: _gates(models[name], some) for name in ("lstm", "gru")},
        "torch_gru": _torch_gru(models["gru"].model, some),
        "results": _results(),
        "pairs": _pairs(),
        "suggested": {name: _suggested(saved) for name, saved in models.items()},
        "samples": {
            name: (EVALUATION / name / "samples.txt").read_text("utf-8").splitlines()[:3] for name in TAUGHT_CELLS
        },
    }
    return _rounded(numbers)


def _corpus(params: Params, saved: SavedModel) -> dict[str, Any]:
    splits = {name: load_split(ENCODED / name) for name in SPLIT_NAMES}
    counts = saved.vocabulary.counts
    return {
        "tokens": {name: split.tokens for name, split in splits.items()},
        "sentences": {name: len(split) for name, split in splits.items()},
        "longest": max(int(split.lengths.max()) for split in splits.values()) - 1,
        "mean_length": splits["test"].tokens / len(splits["test"]),
        "packages": len(params.download.packages),
        "vocabulary": len(saved.vocabulary),
        "words": len(saved.vocabulary) - 3,
        "unknown_share": counts[-1] / sum(counts),
        "rarest": counts[-2],
    }


def _example(saved: SavedModel) -> dict[str, Any]:
    """A sentence through a model: ids in and out, P of each target, the states of the first units."""
    sentence = EncodedSplit.of([saved.vocabulary.sentence_ids(SHOWN_SENTENCE.split())])
    batch = pack(sentence, [0])
    with torch.no_grad():
        h_TH, _ = saved.model.hidden(batch.x_N, batch.batch_sizes)
    show = saved.vocabulary.tokens
    return {
        "x": [show[id_] for id_ in batch.x_N.tolist()],
        "x_ids": batch.x_N.tolist(),
        "y": [show[id_] for id_ in batch.y_N.tolist()],
        "y_ids": batch.y_N.tolist(),
        "probability": (-saved.model.nats(batch)).exp().tolist(),
        "states": h_TH[:, :12].T.tolist(),
    }


def _one_hot(model: LanguageModel, split: EncodedSplit) -> dict[str, Any]:
    """U x as a product and as a look-up."""
    ids_B = torch.from_numpy(split.ids[: split.offsets[1]].astype(np.int64))
    U = _layer(model).U.detach()
    x_BC = torch.nn.functional.one_hot(ids_B, len(U)).to(U.dtype)
    return {"difference": (product(x_BC, U) - U[ids_B]).abs().max().item(), "multiplications": U.numel()}


def _long_sentence(model: LanguageModel, split: EncodedSplit) -> dict[str, Any]:
    """One sequence of more words than the vocabulary has."""
    words = split.ids[(split.ids != START_ID) & (split.ids != END_ID)][:LONG_SENTENCE]
    sequence = EncodedSplit.of([[START_ID, *words.tolist(), END_ID]])
    nats = model.nats(pack(sequence, [0]))
    return {"words": len(words), "perplexity": float(np.exp(nats.double().numpy().mean()))}


def _one_unit(model: LanguageModel, split: EncodedSplit) -> dict[str, Any]:
    """How many different words are ever the likeliest next one, with all units and with the first alone."""
    h_NH, _ = _hidden(model, split)
    V = model.output_weight.detach()
    words = {units: product(h_NH[:, :units], V[:, :units].t()).argmax(1).unique().numel() for units in (1, 2, 10, 100)}
    return {"rows": len(h_NH), "words": {str(units): count for units, count in words.items()}}


def _starts(params: Params, trained: LanguageModel, split: EncodedSplit) -> dict[str, Any]:
    """A plain RNN whose weights are all within 1/sqrt(n), and one with sqrt(n), n their number of connections."""
    cell = params.cell("rnn")
    shape = cell.model.model_copy(update={"lookup_init": "incoming"})
    train = load_split(ENCODED / "train")
    made: dict[str, Any] = {}
    for name in ("inverse", "root"):
        model = LanguageModel(shape, trained.vocabulary_size, torch.Generator().manual_seed(1)).eval()
        if name == "root":
            with torch.no_grad():
                _layer(model).U.mul_(model.vocabulary_size)  # n times as wide
                _layer(model).W.mul_(shape.hidden_size)
                model.output_weight.mul_(shape.hidden_size)
        h_NH, nats = _hidden(model, split)
        norms = gradient_norms(model, split)
        histogram, _ = np.histogram(h_NH.numpy(), bins=40, range=(-1, 1))
        made[name] = {
            "largest": {"U": _layer(model).U.abs().max().item(), "W": _layer(model).W.abs().max().item()},
            "saturated": (h_NH.abs() > SATURATED).double().mean().item(),
            "slope": (1 - h_NH.double() ** 2).mean().item(),
            "nats": nats,
            "states": (histogram / h_NH.numel()).tolist(),
            "gradient": {str(k): norms[k] / norms[0] for k in (1, 5, 10)},
            "losses": _first_steps(model, train),
        }
    return {**made, "uniform": float(np.log(trained.vocabulary_size)), "steps": FIRST_STEPS}


def _first_steps(model: LanguageModel, train: EncodedSplit) -> list[float]:
    """The loss before each of the first steps of gradient descent: AdamW, as the pipeline trains."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.0, fused=True)
    losses = []
    for sentences in list(token_budget_batches(train, STEP_TOKENS, seed=1, epoch=1))[:FIRST_STEPS]:
        optimizer.zero_grad()
        loss = model.loss(pack(train, sentences))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def _gradient_check() -> dict[str, Any]:
    """Each gradient of the hand-written backward pass against (L(w + h) - L(w - h)) / 2h of the equations: float64."""
    random = torch.Generator().manual_seed(1)
    worst, checked = {}, 0
    for name in TAUGHT_CELLS:
        G = 5 * len(GATES[name])
        x_TBX = torch.randn(4, 3, 6, generator=random, dtype=torch.float64)
        weights = [torch.randn(*shape, generator=random, dtype=torch.float64) / 2 for shape in ((6, G), (5, G), (G,))]
        U, W, b = (weight.requires_grad_() for weight in weights)
        h_NH, _ = run_layer(name, x_TBX.flatten(0, 1), (3,) * 4, U, W, b)
        gradients = torch.autograd.grad((h_NH**2).sum(), weights)
        errors = []
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                for place in range(weight.numel()):
                    ends = []
                    for step in (1e-6, -1e-6):
                        weight.view(-1)[place] += step
                        ends.append(_loss_by_equations(name, x_TBX, weights))
                        weight.view(-1)[place] -= step
                    numeric, ours = (ends[0] - ends[1]) / 2e-6, gradient.reshape(-1)[place].item()
                    errors.append(abs(numeric - ours) / max(abs(numeric) + abs(ours), 1e-3))
        worst[name], checked = max(errors), checked + len(errors)
    # Rounding decides the digits of so small a number: its power of ten is the same everywhere.
    return {"checked": checked, "below_power": int(np.ceil(np.log10(max(worst.values()))))}


def _loss_by_equations(name: str, x_TBX: Tensor, weights: Sequence[Tensor]) -> float:
    zero_BH = x_TBX.new_zeros(x_TBX.shape[1], 5)
    state: Any = (zero_BH, zero_BH) if name == "lstm" else zero_BH
    total = 0.0
    for x_BX in x_TBX:
        state = CELLS[name](x_BX, state, *weights)
        s_BH = state[0] if isinstance(state, tuple) else state
        total += (s_BH**2).sum().item()
    return total


def _truncated(model: LanguageModel, split: EncodedSplit) -> dict[str, float]:
    """The cosine between the gradient of W through the last k steps alone and the whole one, by k."""
    length = min(LAGS, int(np.sort(split.lengths)[-min(SENTENCES_LOOKED_AT, len(split))]) - 1)
    starts_B = split.offsets[np.flatnonzero(split.lengths > length)[:SENTENCES_LOOKED_AT]]
    ids_BT = torch.from_numpy(split.ids[starts_B[:, None] + np.arange(length + 2)].astype(np.int64))

    def gradient(steps: int) -> Tensor:
        state = None
        with torch.no_grad():
            for step in range(length + 1 - steps):
                _, state = model.hidden(ids_BT[:, step], (len(ids_BT),), state)
        h_BH = None
        for step in range(length + 1 - steps, length + 1):
            h_BH, state = model.hidden(ids_BT[:, step], (len(ids_BT),), state)
        assert h_BH is not None
        loss = cross_entropy(h_BH, model.output_weight, model.c, ids_BT[:, length + 1])
        return torch.autograd.grad(loss, _layer(model).W)[0].double().flatten()

    whole = gradient(length + 1)
    windows = {k: min(k, length + 1) for k in STEPS_BACK}
    cosines = {str(k): torch.cosine_similarity(gradient(steps), whole, 0).item() for k, steps in windows.items()}
    return cosines | {"steps": length + 1}


def _flow(params: Params, name: str, model: LanguageModel, test: EncodedSplit) -> dict[str, Any]:
    """The gradient k words back relative to that at the word: before training, and as the pipeline wrote it."""
    cell = params.cell(name)
    seed = torch.Generator().manual_seed(cell.train.seed)
    untrained = LanguageModel(cell.model, model.vocabulary_size, seed).eval()
    fresh = gradient_norms(untrained, test)
    trained = pd.read_csv(EVALUATION / name / "gradient_flow.csv")["gradient_norm"].to_numpy()
    return {
        "untrained": _relative(fresh),
        "trained": _relative(trained),
        "decade": (len(fresh) - 1) / -float(np.log10(fresh[-1] / fresh[0])),  # words over which it falls to a tenth
        "norm_of_W": {
            when: torch.linalg.matrix_norm(_layer(one).W.detach().double(), 2).item()
            for when, one in (("untrained", untrained), ("trained", model))
        },
    }


def _relative(norms: np.ndarray) -> list[float]:
    """Norms relative to that at lag 0, for all lags; nan where too few sentences are that long."""
    return [*(norms / norms[0]).tolist(), *[float("nan")] * (LAGS + 1 - len(norms))]


def _gates(saved: SavedModel, split: EncodedSplit) -> dict[str, Any]:
    """The mean of each gate over units: over test words, and word by word over the example."""
    means = {gate: value_NH.double().mean().item() for gate, value_NH in _gate_values(saved.model, split).items()}
    example = EncodedSplit.of([saved.vocabulary.sentence_ids(SHOWN_SENTENCE.split())])
    shown = {gate: value_TH.mean(1).tolist() for gate, value_TH in _gate_values(saved.model, example).items()}
    keeps = _gate_values(saved.model, split)["f" if "f" in means else "z"]
    return {"mean": means, "example": shown, "kept": (keeps > 0.9).double().mean().item()}


def _gate_values(model: LanguageModel, split: EncodedSplit) -> dict[str, Tensor]:
    """Every sigmoid gate (N, H) at all words of a split, from the states that the cell had before each."""
    layer, batch = _layer(model), pack(split, range(len(split)))
    h_NH, _ = _hidden(model, split)
    before_NH = torch.cat([torch.zeros_like(h_NH[: batch.batch_sizes[0]]), h_NH[previous_rows(batch.batch_sizes)]])
    with torch.no_grad():
        read = layer.U[batch.x_N] if model.E is None else product(model.E[batch.x_N], layer.U)
        sums = read + product(before_NH, layer.W) + (0.0 if layer.b is None else layer.b)
    gates = GATES[model.params.cell]
    parts = zip(gates, sums.chunk(len(gates), dim=1), strict=True)
    return {gate: sigmoid(sum_NH) for gate, sum_NH in parts if gate not in ("g", "h")}


def _torch_gru(model: LanguageModel, split: EncodedSplit) -> dict[str, Any]:
    """The trained weights in torch.nn.GRU, whose reset gate acts after the product."""
    layer, H = _layer(model), model.params.hidden_size
    other = torch.nn.GRU(len(layer.U), H)
    no_bias = layer.W.new_zeros(3 * H)
    weights = {
        "weight_ih_l0": layer.U.t(),
        "weight_hh_l0": layer.W.t(),
        "bias_ih_l0": no_bias if layer.b is None else layer.b,
        "bias_hh_l0": no_bias,
    }
    other.load_state_dict(weights)
    batch = pack(split, range(len(split)))
    x_NX = batch.x_N if model.E is None else model.E.detach()[batch.x_N]
    packed = torch.nn.utils.rnn.PackedSequence(x_NX, torch.tensor(batch.batch_sizes))
    with torch.no_grad():
        theirs_NH = other(packed)[0].data
    ours_NH, ours = _hidden(model, split)
    theirs = cross_entropy(theirs_NH, model.output_weight.detach(), model.c, batch.y_N).item()
    return {
        "ours": float(np.exp(ours)),
        "theirs": float(np.exp(theirs)),
        "difference": (ours_NH - theirs_NH).abs().max().item(),
    }


def _results() -> dict[str, Any]:
    keys = ("perplexity", "perplexity_low", "perplexity_high", "nats_per_token", "accuracy_top1")
    baselines = read_metrics(EVALUATION / "baselines" / "metrics.json")
    found = {name: {key: baselines[name][key] for key in keys} for name in ("unigram", "fivegram")}
    for name in TAUGHT_CELLS:
        metrics = read_metrics(EVALUATION / name / "metrics.json")
        found[name] = {key: metrics[key] for key in (*keys, "parameters")}
        found[name]["epochs"] = [record.valid_perplexity for record in read_history(MODELS / name / "history.csv")]
    return found


def _pairs() -> dict[str, dict[str, Any]]:
    """What the report's paired tests say of each model against each other one, by both names."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pd.read_csv(REPORT / "pairs.csv").to_dict("records"):  # the first has the lower perplexity
        there = {"p_holm": pair["p_holm"], "better": pair["better"]}
        back = there | {"better": "no" if pair["better"] == "yes" else pair["better"]}
        found.setdefault(pair["model"], {})[pair["other"]] = there
        found.setdefault(pair["other"], {})[pair["model"]] = back
    return found


def _suggested(saved: SavedModel) -> list[tuple[str, float]]:
    return suggest(saved.model, saved.vocabulary, [SHOWN_BEGINNING.split()], 5)[0]


def _hidden(model: LanguageModel, split: EncodedSplit) -> tuple[Tensor, float]:
    """What the output layer reads at every word (N, H), and the mean loss in nats a token."""
    batch = pack(split, range(len(split)))
    with torch.no_grad():
        h_NH, _ = model.hidden(batch.x_N, batch.batch_sizes)
    return h_NH, model.nats(batch).double().mean().item()


def _first(split: EncodedSplit, sentences: int) -> EncodedSplit:
    offsets = split.offsets[: sentences + 1]
    return EncodedSplit(split.ids[: offsets[-1]], offsets)


def _layer(model: LanguageModel) -> Layer:
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    return layer


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
