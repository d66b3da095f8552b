"""Small training runs, and digests of what comes of each: `python -m tests.training.exact_cases THREADS NAME...`

As a stage does, it first sets what the process needs. MKL_DYNAMIC=FALSE lets it have more threads than processors.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import stages  # noqa: F401 (sets the process up before torch is imported)
from pipeline.evaluation.gradient_flow import gradient_norms
from pipeline.inference.generation import Decoding, generate, suggest
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.training.trainer import Trainer
from tests.conftest import model_params
from tests.training.conftest import Remembers, train_params

WIDE = {"embedding_dim": 120, "hidden_size": 120}  # enough that threads share the work
# What differs from a small model, and from its training.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rnn": ({"cell": "rnn", "bias": False}, {}),
    "lstm": ({"cell": "lstm"}, {"sampled_words": 200}),
    "gru": ({"cell": "gru", "embedding_dim": 30}, {"optimizer": "sgd", "learning_rate": 0.5}),
    "rnn, two layers, tied, dropout": (
        {"cell": "rnn", **WIDE, "layers": 2, "tie_weights": True, "dropout": 0.2},
        {"sampled_words": 200},
    ),
    "lstm, two layers, tied, dropout": (
        {"cell": "lstm", **WIDE, "layers": 2, "tie_weights": True, "dropout": 0.2},
        {},
    ),
    "gru, two layers, tied, dropout": (
        {"cell": "gru", **WIDE, "layers": 2, "tie_weights": True, "dropout": 0.2},
        {"sampled_words": 200, "weight_decay": 0.1},
    ),
    "narrow": ({"cell": "lstm", "hidden_size": 3, "embedding_dim": 2}, {"batch_tokens": 7}),
}
LARGE = {
    f"{cell}, 650 units": (
        {"cell": cell, "hidden_size": 650, "embedding_dim": 650, "dropout": 0.5},
        {"batch_tokens": 8192, "sampled_words": words, "epochs": 1},
    )
    for cell, words in (("rnn", None), ("lstm", 1000), ("gru", 1000))
}


def corpus(sentences: int, size: int, seed: int) -> EncodedSplit:
    """Sentences of 0 to 39 words, some words frequent and most rare, from whole numbers alone."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 40, sentences)
    rows = []
    for length in lengths:
        drawn = generator.integers(0, 1 << 20, length)
        rows.append([START_ID, *(2 + (drawn * drawn // (1 << 20) * (size - 3) >> 20)).tolist(), END_ID])
    return EncodedSplit.of(rows)


def parts(name: str) -> Iterator[tuple[str, Any]]:
    """Everything that comes of a case, in the order in which it is computed, by name."""
    shape, train = {**CASES, **LARGE}[name]
    large = name in LARGE
    size = 2000 if large else 400
    split, valid = corpus(860 if large else 150, size, 1), corpus(60, size, 2)
    counts = np.bincount(split.ids, minlength=size)
    counts[START_ID] = 0
    vocabulary = Vocabulary(["S", "E", *(f"w{id_}" for id_ in range(2, size - 1)), "U"], counts.tolist())
    model = LanguageModel(model_params(**shape), size, torch.Generator().manual_seed(1))
    yield from model.state_dict().items()
    params = train_params(**{"batch_tokens": 1000, "epochs": 2, "precision": "exact", **train})

    batch = pack(split, range(100))
    yield "states", model.hidden(batch.x_N, batch.batch_sizes, generator=torch.Generator().manual_seed(2))[0]
    loss = model.loss(batch, generator=torch.Generator().manual_seed(2))
    loss.backward()
    yield "loss", loss
    yield from ((f"gradient of {key}", weight.grad) for key, weight in model.named_parameters())
    history = Trainer(model, split, valid, counts.tolist(), params).fit(Remembers())
    yield "history", json.dumps([vars(record) for record in history]).encode()
    yield from ((f"trained {key}", weight) for key, weight in model.state_dict().items())

    model.eval()
    scores = model.score(pack(valid, range(60)))
    yield from (("nats", scores.nats_N), ("ranks", scores.rank_N), ("a sentence", model.nats(pack(valid, [3]))))
    yield "gradient flow", gradient_norms(model, valid)
    prompts = [[], ["w7", "w8"], ["w2", "w3", "w4", "w5"]]
    written = generate(model, vocabulary, prompts, 120, Decoding(1.0, None, 5 if large else 30, 1))
    yield "sentences", json.dumps(written).encode()
    yield "suggestions", json.dumps(suggest(model, vocabulary, prompts, 5)).encode()


def digest(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous().numpy()
    return hashlib.sha256(value if isinstance(value, bytes) else value.tobytes()).hexdigest()[:12]


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({name: {part: digest(value) for part, value in parts(name)} for name in sys.argv[2:]}))
