"""A tiny language that a tiny model learns in a few steps, and a listener that remembers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from pipeline.model.language_model import LanguageModel
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID
from pipeline.training.history import EpochRecord, Listener
from pipeline.training.params import NEUTRAL, TrainParams
from pipeline.training.trainer import Trainer
from tests.conftest import model_params

SIZE = 20  # of the vocabulary


@dataclass
class Remembers:
    """A listener: what it was told, in order."""

    told: list[tuple] = field(default_factory=list)

    def started(self, parameter_count: int, train_tokens: int, resumed: bool) -> None:
        self.told.append(("started", parameter_count, train_tokens, resumed))

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        self.told.append(("epoch_ended", record, seconds, tokens_per_second))

    def finished(self, seconds: float) -> None:
        self.told.append(("finished", seconds))

    def failed(self, killed: bool) -> None:
        self.told.append(("failed", killed))


@pytest.fixture(autouse=True)
def _one_thread_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Equal bytes are promised on a CPU; on a busy one, threads wait for each other far longer than they work."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def listener() -> Remembers:
    return Remembers()


def encode(sentences: Sequence[Sequence[int]]) -> EncodedSplit:
    """A split of sentences given as ids without START and END."""
    whole = [[START_ID, *sentence, END_ID] for sentence in sentences]
    offsets = np.cumsum([0, *(len(sentence) for sentence in whole)], dtype=np.int64)
    return EncodedSplit(np.concatenate(whole).astype(np.uint16), offsets)


def of_lengths(lengths: Sequence[int]) -> EncodedSplit:
    """A split whose sentences have so many predicted tokens; what they say does not matter."""
    return encode([[2] * (length - 1) for length in lengths])


def counting(sentences: int, seed: int) -> EncodedSplit:
    """Sentences that count upwards from anywhere: all but their first word and their end can be foretold."""
    generator = np.random.default_rng(seed)
    spans = zip(generator.integers(2, 9, sentences), generator.integers(1, 11, sentences), strict=True)
    return encode([list(range(first, first + words)) for first, words in spans])


def noise(sentences: int, seed: int) -> EncodedSplit:
    """Sentences of nothing but chance: what is learnt of some is wrong of others."""
    generator = np.random.default_rng(seed)
    return encode([generator.integers(2, SIZE, length).tolist() for length in generator.integers(1, 9, sentences)])


def train_params(**changes) -> TrainParams:
    values = {
        "seed": 1,
        "context": "sentence",
        "streams": 4,
        "bptt": 8,
        "epochs": 3,
        "batch_tokens": 40,
        "optimizer": "adamw",
        "learning_rate": 0.02,
        "warmup": 0.1,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "patience": 3,
        "sampled_words": None,
        "sampling_power": 0.5,
        "precision": "exact",
        "device": "auto",
    }
    return TrainParams.model_validate({**NEUTRAL, **values, **changes})


@pytest.fixture
def make_model() -> Callable[..., LanguageModel]:
    """Builds the same small model each time."""

    def make(**changes) -> LanguageModel:
        params = model_params(**{"cell": "gru", "hidden_size": 8, **changes})
        return LanguageModel(params, SIZE, torch.Generator().manual_seed(1))

    return make


def history(*, train_nats: Sequence[float] = (), valid_nats: Sequence[float] = ()) -> list[EpochRecord]:
    """Records of epochs of which only one of the two losses matters."""
    return [
        EpochRecord(epoch, epoch * 10, 0.01, train, valid, float(np.exp(valid)))
        for epoch, (train, valid) in enumerate(
            zip(train_nats or valid_nats, valid_nats or train_nats, strict=True), start=1
        )
    ]


TRAIN, VALID = counting(30, seed=1), counting(10, seed=2)
ONE_BATCH = 10**6  # tokens: as large as any split here


def fit(
    model: LanguageModel,
    train_split: EncodedSplit = TRAIN,
    valid_split: EncodedSplit = VALID,
    listener: Listener | None = None,
    **changes,
) -> list[EpochRecord]:
    counts = np.bincount(train_split.ids, minlength=SIZE).tolist()
    return Trainer(model, train_split, valid_split, counts, train_params(**changes)).fit(listener or Remembers())


def weights(model: LanguageModel) -> bytes:
    return b"".join(weight.numpy().tobytes() for weight in model.state_dict().values())
