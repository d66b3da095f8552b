"""Small models and encoded sentences for the tests of this package."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluation.report import write_report
from pipeline.evaluation.results import BASELINES
from pipeline.evaluation.scores import ScoreSums, summarise, write_bands, write_metrics, write_sentences
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import ModelParams
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.training.history import EpochRecord, write_history
from tests.conftest import vocabulary_of

TEXT = "the of a to in and is it that for , . ? not n't be as on with this"  # each word once
WORDS = TEXT.split()
DOCUMENT = np.arange(60, dtype=np.int32) // 5  # of each of the 60 sentences of a run
SEEN = np.arange(60) % 10 == 0  # of these sentences, shares an 8-gram with the training split
FIGURES = ["gradient_flow.png", "learning_curves.png", "perplexity_by_band.png"]


@pytest.fixture
def vocabulary() -> Vocabulary:
    """Ids 2 to 21 are WORDS in their order, 22 is UNKNOWN_TOKEN."""
    counts = {word: 1000 - 10 * rank for rank, word in enumerate(WORDS)}
    return vocabulary_of({**counts, "once": 1}, size=len(WORDS) + 3, sentences=100)


@pytest.fixture
def make_model(vocabulary: Vocabulary) -> Callable[..., LanguageModel]:
    """Builds a model of 8 hidden units with large random weights, so that its probabilities are far from equal."""

    def make(cell: str = "lstm", *, layers: int = 1, seed: int = 0, size: int = len(vocabulary)) -> LanguageModel:
        params = ModelParams.model_validate(
            {
                "cell": cell,
                "hidden_size": 8,
                "embedding_dim": None,
                "layers": layers,
                "bias": True,
                "output_bias": True,
                "tie_weights": False,
                "dropout": 0.0,
                "lookup_init": None,
            }
        )
        generator = torch.Generator().manual_seed(seed)
        model = LanguageModel(params, size, generator)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return model.eval()

    return make


@pytest.fixture
def encode() -> Callable[[Sequence[Sequence[int]]], EncodedSplit]:
    """Makes a split of sentences given as ids without START and END."""

    def make(sentences: Sequence[Sequence[int]]) -> EncodedSplit:
        whole = [[START_ID, *sentence, END_ID] for sentence in sentences]
        offsets = np.cumsum([0, *(len(sentence) for sentence in whole)], dtype=np.int64)
        return EncodedSplit(np.concatenate(whole).astype(np.uint16), offsets)

    return make


def _scores(nats: float, seed: int) -> ScoreSums:
    """Of 60 sentences of 10 targets each, vocabulary 2,000; `nats` is the mean."""
    generator = np.random.default_rng(seed)
    sums = ScoreSums(60, 2000)
    targets = np.minimum(generator.zipf(1.3, 600), 1999)
    sums.add(np.repeat(np.arange(60), 10), targets, generator.normal(nats, 0.3, 600), generator.integers(0, 20, 600))
    return sums


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[dict[str, float]], Path]:
    """Writes evaluation/ and models/ of a run with the given networks and their test nats; returns their folder.

    Baselines: 6 nats for the unigram, 4.4 for the trigram, 4.2 for the 5-gram. The validation perplexity of the
    networks falls in the order given: the last is the best there, whatever the test split says.
    """

    def make(networks: dict[str, float]) -> Path:
        baselines = {name: _scores(nats, 0) for name, nats in zip(BASELINES, (6.0, 4.4, 4.2), strict=True)}
        folder = tmp_path / "evaluation" / "baselines"
        write_metrics(
            folder / "metrics.json",
            {name: summarise(sums.sentences, DOCUMENT, SEEN, 100, 1) for name, sums in baselines.items()},
        )
        for name, sums in baselines.items():
            write_sentences(folder / "sentences" / f"{name}.parquet", sums, DOCUMENT)
        write_bands(folder / "bands.csv", [band for name, sums in baselines.items() for band in sums.bands(name)])
        for position, (name, nats) in enumerate(networks.items()):
            sums, folder = _scores(nats, 0), tmp_path / "evaluation" / name
            write_metrics(
                folder / "metrics.json", summarise(sums.sentences, DOCUMENT, SEEN, 100, 1) | {"parameters": 1610000}
            )
            write_sentences(folder / "sentences.parquet", sums, DOCUMENT)
            write_bands(folder / "bands.csv", sums.bands(name))
            (folder / "gradient_flow.csv").write_text("lag,gradient_norm\n0,0.5\n1,0.1\n2,0.01\n")
            (folder / "samples.txt").write_text(f"the {name} wrote *this*.\n<b>and</b> a|b.\n")
            valid = (150.0 - 10 * position, 99.5 - 10 * position)
            history = [EpochRecord(epoch, 10 * epoch, 0.01, 5.0, math.log(p), p) for epoch, p in enumerate(valid, 1)]
            write_history(tmp_path / "models" / name / "history.csv", history)
        return tmp_path

    return make


def report_on(folder: Path, names: list[str], report: str = "report") -> str:
    write_report(folder / "evaluation", folder / "models", names, folder / report, 100, 1)
    return (folder / report / "report.md").read_text(encoding="utf-8")
