"""Small models and encoded sentences for the tests of this package."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.evaluation.baselines import counted_words
from pipeline.evaluation.gradient_flow import gradient_norms, write_gradient_norms, write_plain_rnn_norms
from pipeline.evaluation.inside import look_inside, word_scores, write_inside
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.page import write_page
from pipeline.evaluation.report import write_report
from pipeline.evaluation.results import BASELINES
from pipeline.evaluation.scores import ScoreSums, summarise, write_bands, write_metrics, write_sentences
from pipeline.evaluation.words import Words, write_words
from pipeline.inference.predictor import Predictor
from pipeline.model.language_model import LanguageModel
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary
from pipeline.training.history import EpochRecord, write_history
from tests.conftest import model_params, saved_model, vocabulary_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 60_000  # milliseconds that a browser waits, on a busy machine
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
        params = model_params(cell=cell, hidden_size=8, layers=layers)
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
            fall = (10 if len(networks) < 10 else 5) * position
            valid = (150.0 - fall, 99.5 - fall)
            history = [EpochRecord(epoch, 10 * epoch, 0.01, 5.0, math.log(p), p) for epoch, p in enumerate(valid, 1)]
            write_history(tmp_path / "models" / name / "history.csv", history)
        return tmp_path

    return make


@pytest.fixture
def make_looked_at(tmp_path: Path, make_run, make_model) -> Callable[..., Path]:
    """As `make_run`, with what `evaluate` and `baselines` leave for the page: of real models, on 40 sentences.

    Sentences have 6 to 11 words of `words`, some of which are unknown, and stand in ten documents.
    """

    def make(names: Sequence[str], words: Sequence[str] = WORDS, by_character: bool = False) -> Path:
        folder = make_run(dict.fromkeys(names, 4.0))
        evaluation, models = folder / "evaluation", folder / "models"
        counts = {word: 1000 - 9 * rank for rank, word in enumerate(words)} | {"rare": 1}
        vocabulary = vocabulary_of(counts, len(words) + 3, sentences=100)
        chance = np.random.default_rng(0)
        texts = [chance.choice([*words, "zzz"], 6 + number % 6).tolist() for number in range(40)]
        test = EncodedSplit.of(vocabulary.sentence_ids(text) for text in texts)
        train = EncodedSplit.of(vocabulary.sentence_ids(chance.choice(words, 8).tolist()) for _ in range(100))
        every, document = np.arange(40), np.arange(40, dtype=np.int32) // 4

        def scored(path: Path, found: Words, extra: dict[str, int]) -> None:
            sums = ScoreSums(len(test), len(vocabulary))
            sums.add(found.sentence, found.target, found.nats, np.ones(len(found.nats), np.int64))
            write_sentences(path, sums, document)
            if extra:
                metrics = summarise(sums.sentences, document, np.zeros(40, bool), 50, 1)
                write_metrics(path.parent / "metrics.json", metrics | extra)

        for number, name in enumerate(names):
            cell = ("rnn", "lstm", "gru")[number % 3]
            model = make_model(cell, seed=number, size=len(vocabulary))
            passes = Predictor(saved_model(model, vocabulary)).passes(test)
            found = word_scores(model, passes, test, every, every)
            write_words(evaluation / name / "words.parquet", found)
            inside = look_inside(model, vocabulary, test, test, seed=1)
            inside["samples"] = {"0.5": [f"<b>{name}</b> at a half"]}
            write_inside(evaluation / name / "inside.json", inside)
            scored(evaluation / name / "sentences.parquet", found, {"parameters": model.parameter_count()})
            write_gradient_norms(evaluation / name / "gradient_flow.csv", gradient_norms(model, test))
            text = {"lowercase": True} | ({"by_character": True} if by_character else {})
            config = {"files": {"model.safetensors": f"{number:064}"}, "text": text}
            (models / name / "config.json").write_text(json.dumps(config))
            vocabulary.save(models / name / "vocabulary.tsv")
        counted = counted_words(KneserNey(train, len(vocabulary), 5), test, every, every)
        write_words(evaluation / "baselines" / "words.parquet", counted)
        for name in BASELINES:
            scored(evaluation / "baselines" / "sentences" / f"{name}.parquet", counted, {})
        norms = {"vanishes": np.array([1, 0.1, 0.01]), "explodes": np.array([1.0, 2, 4])}
        write_plain_rnn_norms(evaluation / "baselines" / "plain_rnns.csv", norms)
        rows = {"document": [str(number // 4) for number in range(40)], "split": ["test"] * 40, "tokens": texts}
        pq.write_table(pa.table(rows, schema=TOKEN_SCHEMA), folder / "tokens.parquet")
        return folder

    return make


def page_on(folder: Path, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The page of such a folder, and the data in it."""
    compared = write_report(folder / "evaluation", folder / "models", names, folder / "report", 50, 1)
    write_page(folder / "report" / "index.html", compared, folder / "tokens.parquet", 1.0)
    text = (folder / "report" / "index.html").read_text(encoding="utf-8")
    (found,) = re.findall(r"<script type='application/json' id='data'>(.*?)</script>", text, re.DOTALL)
    return text, json.loads(found)


def report_on(folder: Path, names: list[str], report: str = "report") -> str:
    write_report(folder / "evaluation", folder / "models", names, folder / report, 100, 1)
    return (folder / report / "report.md").read_text(encoding="utf-8")


def opened(browser: "Browser", path: Path, **options: Any) -> "tuple[Page, list[str]]":
    """The page, drawn, and a list to which errors, also of the policy, are added."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.wait_for_function("[...document.querySelectorAll('.chart')].every((one) => one.querySelector('svg, canvas'))")
    return page, errors


def with_data(text: str, data: dict[str, Any]) -> str:
    """The page `text`, showing other data."""
    head, mark, rest = text.partition("id='data'>")
    return head + mark + json.dumps(data).replace("<", "\\u003c") + rest[rest.index("</script>") :]
