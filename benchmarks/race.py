"""A recipe against PyTorch's example word_language_model on the same text, side by side; `benchmarks.quality --race`.

Both are processes of their own, with all threads, that take turns: a side's clock counts its own turns, validation
included, reading the text and waiting not. Ours is set up as stages are. Both predict the same tokens, those of the
product's text path, sentence ends included, and both are validated on all of them, in ten streams.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import torch

from benchmarks.harness import Result
from benchmarks.peers import WordLanguageModelTraining
from pipeline.evaluation.baselines import ORDERS
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import ModelParams
from pipeline.model.streams import running_text
from pipeline.params import Params
from pipeline.provenance.environment import machine_params
from pipeline.retraining.recipe_run import recipe_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.exactness import SAME_ARITHMETIC
from pipeline.runtime.paths import PINS, VOCABULARY_FILE
from pipeline.runtime.processors import available_processors
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.stopping import Stop, child
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.documents import read_documents, write_documents
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.sentences import TRAIN, SentenceSplitter, training_sample
from pipeline.text.sources.corpus import documents
from pipeline.text.sources.fetch import Fetcher, mirror_folder
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens
from pipeline.text.unknown import with_unknown_words
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.history import EpochRecord, Listener
from pipeline.training.params import TrainParams
from pipeline.training.trainer import Trainer, validation_nats

PEER = "word_language_model"
PEER_EPOCHS = 6  # of a race; its perplexity then falls slowly
MOST_PEER_EPOCHS = 40  # its default, which only time ends before
PRECISIONS = ("exact", "auto")  # of a race
PEER_TURN, OUR_TURN = 8.0, 1.0  # seconds; in a race, of which ours should need an eighth
EQUAL_TURN = 8.0

OUR_SIDE = "import stages; from benchmarks.race import our_side; our_side()"
PEER_SIDE = (
    "from pipeline.runtime.settings import limit_threads; limit_threads(); "
    "from benchmarks.race import peer_side; peer_side()"
)


class TimeIsUpError(Exception):
    """This side gets no further turn."""


class Turns(Stop):
    """Of a side's process: its clock, and its talk with the process that gives out the turns.

    It is given the seconds of its next turn, a line each, 0 for none; after a turn it writes a line, the JSON object
    `seconds`, on its clock, `points`, what `note` was told since the last, and in the end `figures`.
    """

    def __init__(self, given: TextIO, told: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._given, self._told, self._clock = given, told, clock
        self._seconds = self._begun = self._length = 0.0
        self._points: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """Of all its turns so far."""
        return self._seconds + self._clock() - self._begun

    def wait(self) -> None:
        """Wait for a turn; the clock stands still.

        Raises:
            TimeIsUpError: there is none.
        """
        self.tell()
        self._length = float(self._given.readline() or 0)
        self._begun = self._clock()
        if not self._length:
            raise TimeIsUpError

    def raise_if_asked(self, save: Callable[[], str] = str) -> None:
        """After each piece of work: if the turn is over, `wait` for the next."""
        if self._clock() - self._begun >= self._length:
            self.end()
            self.wait()

    def note(self, perplexity: float) -> None:
        """Put a validation's perplexity on record, with the time."""
        self._points.append((self.seconds, perplexity))

    def end(self) -> None:
        """Put what the turn took on the clock."""
        now = self._clock()
        self._seconds, self._begun = self._seconds + now - self._begun, now

    def tell(self, **more: object) -> None:
        """Write a line."""
        told = {"seconds": self._seconds, "points": self._points, **more}
        print(json.dumps(told), file=self._told, flush=True)
        self._points = []


class _Noted(Listener):
    """Puts each epoch on a side's record."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def epoch_ended(self, record: EpochRecord, seconds: float, tokens_per_second: float) -> None:
        self._turns.note(record.valid_perplexity)


def our_side() -> None:
    """Train as the first argument, a JSON object, says; tell the perplexity of validation and, if asked, of test."""
    asked = json.loads(sys.argv[1])
    splits, vocabulary = _read(Path(asked["folder"]))
    shape, params = ModelParams.model_validate(asked["model"]), TrainParams.model_validate(asked["train"])
    turns = Turns(sys.stdin, sys.stdout)
    turns.wait()
    model = LanguageModel(shape, len(vocabulary), torch.Generator().manual_seed(params.seed))
    trainer = Trainer(model, splits["train"], splits["valid"], vocabulary.counts, params, stop=turns)
    history = trainer.fit(_Noted(turns))  # pyrefly: ignore[bad-instantiation]
    turns.end()
    figures = {"valid": min(record.valid_perplexity for record in history)}
    if asked["test"]:
        nats = validation_nats(model, splits["test"], params.batch_tokens, context=params.context)
        figures["test"] = math.exp(nats)
    turns.tell(figures=figures)


def peer_side() -> None:
    """Likewise for word_language_model, which has no id for SENTENCE_START; it stops when its time is up."""
    asked = json.loads(sys.argv[1])
    splits, vocabulary = _read(Path(asked["folder"]))
    splits["train"] = with_unknown_words(splits["train"], vocabulary.counts, seed=0, epoch=0)
    text = {name: torch.from_numpy(running_text(split).astype(np.int64)) - 1 for name, split in splits.items()}
    turns = Turns(sys.stdin, sys.stdout)
    turns.wait()
    training = WordLanguageModelTraining(len(vocabulary) - 1, text["train"][1:], text["valid"], turns.raise_if_asked)
    try:
        for _ in range(asked["epochs"]):
            turns.note(training.epoch())
    except TimeIsUpError:
        pass
    turns.end()
    figures = {"valid": training.end()}
    if asked["test"]:
        figures["test"] = math.exp(training.nats(text["test"]))
    turns.tell(figures=figures)


def _read(folder: Path) -> tuple[dict[str, EncodedSplit], Vocabulary]:
    """The splits by name, and the vocabulary."""
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    splits: dict[str, EncodedSplit] = {name: load_split(folder / name, len(vocabulary)) for name in SPLITS}
    return splits, vocabulary


class Side:
    """A side's process, as seen by the one that gives out turns.

    Attributes:
        seconds: on its clock.
        points: seconds and validation perplexity after each epoch.
        figures: perplexities by split, once it is over.
    """

    def __init__(self, name: str, code: str, asked: dict[str, object], folder: Path, stack: ExitStack) -> None:
        self.name, self.seconds = name, 0.0
        self.points: list[tuple[float, float]] = []
        self.figures: dict[str, float] = {}
        self._log = folder / f"{name}.log"
        # As a stage's process finds it; what is set for this process must not count.
        environment = {key: value for key, value in os.environ.items() if key not in SAME_ARITHMETIC}
        command = [sys.executable, "-c", code, json.dumps(asked | {"folder": str(folder)})]
        with self._log.open("w") as log:
            self._process = stack.enter_context(
                child(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=log, text=True)
            )
        self._listen()

    @property
    def over(self) -> bool:
        """Whether it has told its figures, and works no more."""
        return bool(self.figures)

    def turn(self, seconds: float) -> None:
        """Let it work for so long, about, and wait until it has; 0: it gets no further turn."""
        given: Any = self._process.stdin
        given.write(f"{seconds}\n")
        given.flush()
        self._listen()

    def _listen(self) -> None:
        out: Any = self._process.stdout
        told = out.readline()
        if not told:
            print(self._log.read_text(), end="", file=sys.stderr)
            raise InputError(f"the process of {self.name} ended early; its messages stand above")
        news = json.loads(told)
        self.seconds, self.figures = news["seconds"], news.get("figures", {})
        for seconds, perplexity in news["points"]:
            self.points.append((seconds, perplexity))
            told = (
                f"{self.name}: epoch {len(self.points)}, validation perplexity {perplexity:.2f} after {seconds:.1f} s"
            )
            print(told, file=sys.stderr, flush=True)


def to_their_end(recipe: str, changes: Sequence[str]) -> Iterator[Result]:
    """Seconds to each validation perplexity that the peer reaches within its six epochs, and perplexities by then."""
    with ExitStack() as stack:
        params, folder = _prepared(recipe, changes, stack)
        ours = {name: _ours(recipe, params, folder, stack, {"precision": name}) for name in PRECISIONS}
        peer = Side(PEER, PEER_SIDE, {"epochs": PEER_EPOCHS, "test": False}, folder, stack)
        while running := [side for side in (*ours.values(), peer) if not side.over]:
            for side in running:
                side.turn(PEER_TURN if side is peer else OUR_TURN)
    for precision, side in ours.items():
        yield from race_rows(f"{recipe}_{precision}", side.points, peer.points)


def race_rows(name: str, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> Iterator[Result]:
    """Rows from the seconds and validation perplexities of both; the peer's best is the goal, and has the last row."""
    end, goal = min(theirs, key=lambda point: point[1])
    about = f"{PEER}, {machine()}"
    for number, (seconds, perplexity) in enumerate(ours, start=1):
        unit = f"validation perplexity after {seconds:.1f} s, theirs after {end:.1f} s"
        yield Result(f"valid_{name}_epoch_{number}", about, perplexity, goal, unit, goal / perplexity, 0.0)
    best = math.inf
    for number, (seconds, perplexity) in enumerate(theirs, start=1):
        if perplexity >= best:
            continue
        best = perplexity
        when = next((second for second, our_perplexity in ours if our_perplexity <= perplexity), None)
        if when is None:
            print(f"{name} does not reach a validation perplexity of {perplexity:.2f}", file=sys.stderr)
            continue
        row = f"seconds_{name}_to_" + ("end" if perplexity == goal else f"epoch_{number}")
        yield Result(row, about, when, seconds, f"s to validation perplexity {perplexity:.2f}", seconds / when, 0.0)


def equal_time(recipe: str, changes: Sequence[str]) -> Iterator[Result]:
    """Perplexities of the recipe as it is, of the 5-gram, and of the peer, which is stopped when it has had as long."""
    with ExitStack() as stack:
        params, folder = _prepared(recipe, changes, stack)
        ours = _ours(recipe, params, folder, stack, {}, test=True)
        peer = Side(PEER, PEER_SIDE, {"epochs": MOST_PEER_EPOCHS, "test": True}, folder, stack)
        in_turn(ours, peer)
        counted = _fivegram(folder)
    about = f"{PEER}, as long: {peer.seconds:.0f} s, ours {ours.seconds:.0f} s; {machine()}"
    for split in ("valid", "test"):
        for name, theirs in ((about, peer.figures[split]), ("5-gram, modified Kneser-Ney", counted[split])):
            row, our_figure = f"{split}_{recipe}_{params.download.source}", ours.figures[split]
            yield Result(row, name, our_figure, theirs, f"{split} perplexity", theirs / our_figure, 0.0)


def in_turn(ours: Side, peer: Side) -> None:
    """Let both work until ours has ended and the peer has had as long, or is done with its epochs."""
    while not (ours.over and peer.over):
        if not ours.over:
            ours.turn(EQUAL_TURN)
        left = ours.seconds - peer.seconds
        if not peer.over and (left > 0 or ours.over):
            peer.turn(max(left, 0.0))


def machine() -> str:
    """The processor, and the threads of each side."""
    threads = os.environ.get("OMP_NUM_THREADS") or available_processors()
    return f"{machine_params()['machine.processor']}, {threads} threads"


def _ours(
    recipe: str, params: Params, folder: Path, stack: ExitStack, change: dict[str, object], test: bool = False
) -> Side:
    """The process of the recipe's one model, on the processor."""
    if len(params.cells) > 1:
        raise InputError(f"recipe {recipe} has several models: {', '.join(params.cells)}; a race takes one")
    (cell,) = params.cells.values()
    train = in_numbers(cell.train, cell.model, load_split(folder / "train").tokens)
    train = train.model_copy(update={"device": "cpu", **change})
    asked: dict[str, object] = {"model": dict(cell.model), "train": dict(train), "test": test}
    return Side(f"{recipe}, {train.precision}", OUR_SIDE, asked, folder, stack)


def _prepared(recipe: str, changes: Sequence[str], stack: ExitStack) -> tuple[Params, Path]:
    """The recipe's parameters, and a folder with its text as the stages make it: vocabulary.tsv and encoded splits."""
    _, params = recipe_params(recipe, changes)
    folder = Path(stack.enter_context(TemporaryDirectory()))
    rules, raw, tokens = params.tokenize, folder / "raw", folder / "tokens"
    with progress_bar("text", None, "documents and sentences") as bar:
        fetcher = Fetcher(params.download.max_bytes, mirror=mirror_folder())
        write_documents(documents(params.download, PINS / "corpus.txt", fetcher), raw)
        splitter = SentenceSplitter(
            rules.language, training_sample(read_documents(raw)) if rules.language == TRAIN else ()
        )
        tokenizer = Tokenizer(rules.lowercase, rules.by_character)
        write_tokens(read_documents(raw), splitter, tokenizer, rules, tokens, 1, bar)
        vocabulary = build_vocabulary(count_words(tokens, "train", folder, 1, bar), params.vocabulary.size)
        encode_tokens(tokens, vocabulary, folder, 1, bar)
    vocabulary.save(folder / VOCABULARY_FILE)
    sizes = ", ".join(f"{load_split(folder / name).tokens:,} tokens of {name}" for name in SPLITS)
    print(f"{params.download.source}: {sizes}, {len(vocabulary):,} words", file=sys.stderr, flush=True)
    return params, folder


def _fivegram(folder: Path) -> dict[str, float]:
    """Perplexities of the 5-gram by split."""
    splits, vocabulary = _read(folder)
    train = with_unknown_words(splits["train"], vocabulary.counts, seed=0, epoch=0)  # as the baselines count
    model = KneserNey(train, len(vocabulary), ORDERS["fivegram"])
    return {split: math.exp(model.nats(splits[split]).mean()) for split in ("valid", "test")}
