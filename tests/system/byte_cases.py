"""Small training runs, and digests of what comes of each, in the order in which it is computed.

`python -m tests.system.byte_cases THREADS CASE...` prints them as JSON. As a stage does, it first sets what the process
needs; MKL_DYNAMIC=FALSE lets it have more threads than processors. A case may end in ` with ` and one of `FAULTS`,
which breaks the code on purpose. Without arguments, byte_digests.json is written anew, after a change that is meant to
change bytes.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from pipeline.evaluation.gradient_flow import gradient_norms
from pipeline.inference.generation import Decoding, generate, suggest
from pipeline.model import recurrence
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.model.streams import Carried, Windows
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.training import trainer
from tests.conftest import model_params
from tests.training.conftest import Remembers, train_params

DIGESTS = Path(__file__).with_name("byte_digests.json")
LARGER = {"embedding_dim": 120, "hidden_size": 120, "layers": 2}  # enough that threads share much of the work
TIED = {**LARGER, "tie_weights": True, "dropout": 0.2}
RECIPE = {"context": "stream", "sampled_words": 200, "betas": [0.9, 0.99], "clip_norm": 0.5, "dropped_words": 0.1}
RECIPE |= {"locked_dropout_inputs": 0.3, "locked_dropout_outputs": 0.4, "weight_decay": 0.001}
# What differs from a small model, and from its training.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rnn": ({"cell": "rnn", "bias": False}, {}),
    "lstm": ({"cell": "lstm"}, {"sampled_words": 200}),
    "gru": ({"cell": "gru", "embedding_dim": 30}, {"optimizer": "sgd", "learning_rate": 0.5}),
    "stream": ({"cell": "lstm", "layers": 2, "embedding_dim": 30}, {"streams": 12, "bptt": 20, **RECIPE}),
    "recipe": (
        {"cell": "lstm", "embedding_dim": 30, "layers": 2, "lower_sizes": [40], "hidden_size": 30, "tie_weights": True},
        {"streams": 12, "bptt": 20, **RECIPE, "locked_dropout_embedding": 0.2, "dropped_recurrent_weights": 0.3}
        | {"activation_regularization": 2.0, "temporal_regularization": 1.0, "schedule": "linear", "clip_value": 0.1}
        | {"average": "exponential", "average_decay": 0.9, "epochs": 1},
    ),
    "states": (
        {"cell": "gru", "embedding_dim": 30, "weight_init": 0.1},
        {"locked_dropout_states": 0.2, "average": "last", "average_share": 0.5, "epochs": 1},
    ),
    "mogrifier": (
        {"cell": "lstm", "embedding_dim": 30, "mogrifier_rounds": 3, "mogrifier_rank": 20},
        {"locked_dropout_states": 0.2, "epochs": 1},
    ),
    "narrow": ({"cell": "lstm", "hidden_size": 3, "embedding_dim": 2}, {"batch_tokens": 50}),
}
LARGE = {
    "rnn, two layers, tied, dropout": ({"cell": "rnn", **TIED}, {"sampled_words": 200}),
    "lstm, two layers, tied, dropout": ({"cell": "lstm", **TIED}, {}),
    "gru, two layers, tied, dropout": ({"cell": "gru", **TIED}, {"sampled_words": 200, "weight_decay": 0.1}),
    "mogrifier, 160 units, tied, stream": (  # wide enough for products in pieces
        {"cell": "lstm", "embedding_dim": 160, "hidden_size": 160, "tie_weights": True, "mogrifier_rounds": 2},
        {"streams": 40, "bptt": 35, **RECIPE, "epochs": 1},
    ),
}
# Of the size of published models: one step on some 8,192 tokens.
FULL_SIZE = {
    f"{cell}, 650 units": (
        {"cell": cell, "hidden_size": 650, "embedding_dim": 650, "dropout": 0.5},
        {"batch_tokens": 8192, "sampled_words": words, "epochs": 1},
    )
    for cell, words in (("rnn", None), ("lstm", 1000), ("gru", 1000))
}

in_order: Callable[[list[str]], list[str]] = list  # what iterates over words


def corpus(sentences: int, size: int, seed: int) -> EncodedSplit:
    """Sentences of 0 to 39 words, some words frequent and most rare, from whole numbers alone."""
    generator = np.random.default_rng(seed)
    rows = []
    for length in generator.integers(0, 40, sentences):
        drawn = generator.integers(0, 1 << 20, length)
        rows.append([START_ID, *(2 + (drawn * drawn // (1 << 20) * (size - 3) >> 20)).tolist(), END_ID])
    return EncodedSplit.of(rows)


def parts(name: str) -> Iterator[tuple[str, Any]]:
    """Everything that comes of a case, by name."""
    shape, train = {**SMALL, **LARGE, **FULL_SIZE}[name]
    size, sentences = (2000, 425) if name in FULL_SIZE else (400, 150)
    split, valid = corpus(sentences, size, 1), corpus(60, size, 2)
    counts = np.bincount(split.ids, minlength=size)
    counts[START_ID] = 0
    counts[-1] = 1  # as where some words are unknown: else rare ones would stand for them
    words = in_order([f"w{id_}" for id_ in range(2, size - 1)])
    vocabulary = Vocabulary(["START", "END", *words, "UNKNOWN"], counts.tolist())
    model = LanguageModel(model_params(**shape), size, torch.Generator().manual_seed(1))
    yield from model.state_dict().items()
    params = train_params(**{"batch_tokens": 1000, "epochs": 2, **train})

    batch = pack(split, range(100))
    yield "states", model.hidden(batch.x_N, batch.batch_sizes, generator=torch.Generator().manual_seed(2))[0]
    loss = model.loss(batch, generator=torch.Generator().manual_seed(2))
    loss.backward()
    yield "loss", loss
    yield from ((f"gradient of {key}", weight.grad) for key, weight in model.named_parameters())
    history = trainer.Trainer(model, split, valid, counts.tolist(), params).fit(Remembers())
    yield "history", json.dumps([vars(record) for record in history]).encode()
    yield from ((f"trained {key}", weight) for key, weight in model.state_dict().items())

    model.eval()
    scores = model.score(pack(valid, range(60)))
    yield from (("nats", scores.nats_N), ("ranks", scores.rank_N), ("nats of one", model.nats(pack(valid, [3]))))
    if params.context == "stream":
        carried = Carried()
        yield "nats of a text", torch.cat([model.nats(batch, carried) for batch in Windows(valid, 1, repeat(300))])
    yield "gradient flow", gradient_norms(model, valid)
    prompts = [[], ["w7", "w8"], ["w2", "w3", "w4", "w5"]]
    written = generate(model, vocabulary, prompts, 120, Decoding(1.0, None, 6, 1))
    yield "sentences", json.dumps(written).encode()
    yield "suggestions", json.dumps(suggest(model, vocabulary, prompts, 5)).encode()


def digest(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous().numpy()
    return hashlib.sha256(value if isinstance(value, bytes) else value.tobytes()).hexdigest()[:12]


def _seed_of_the_process(entropy: Any, sequence: Any = np.random.SeedSequence) -> Any:
    return sequence([*entropy, os.getpid()])


FAULTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "": nullcontext,
    "sums in the order of threads": lambda: patch.object(recurrence, "column_sums", lambda x_NM: x_NM.sum(0)),
    "a seed of the process": lambda: patch.object(trainer.np.random, "SeedSequence", _seed_of_the_process),
    "a set in the order of hashes": lambda: patch.dict(globals(), in_order=lambda words: list(set(words))),
}


def computed(case: str) -> dict[str, str]:
    """The digests of all that comes of a case, by name."""
    name, _, fault = case.partition(" with ")
    with FAULTS[fault]():
        return {part: digest(value) for part, value in parts(name)}


def whole(digests: dict[str, str]) -> str:
    """One digest of all that comes of a case."""
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


if __name__ == "__main__":
    threads, *cases = sys.argv[1:] or ["1", *SMALL, *LARGE, *FULL_SIZE]
    torch.set_num_threads(int(threads))
    found = {case: computed(case) for case in cases}
    if sys.argv[1:]:
        print(json.dumps(found))
    else:
        DIGESTS.write_text(json.dumps({name: whole(digests) for name, digests in found.items()}, indent=1) + "\n")
