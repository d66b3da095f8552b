"""How often test sentences have been used to judge, and what confidence it takes to promote after that.

Whoever asks often enough is lucky once: of twenty challengers that are no better, one passes a test that lets pass one
in twenty. So judgement k on a split may let pass 2 a / (k (k + 1)) of those that are no better, a the share that a
first one may, (1 - confidence) / 2: the terms a, a / 3, a / 6 and so on add up to 2 a = 1 - confidence, however many
judgements there are. (A sum of chances is enough whatever hangs together with what: Bonferroni; spent over a sequence
without an end: Lan and DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials"; Foster and Stine 2008,
"Alpha-investing".)

Splits change by a few sentences, and each sentence keeps its own count: u earlier judgements have used it. The number
of a judgement on n sentences is

    k = n / (sum over the sentences of 1 / (1 + u)), rounded up

On the sentences of the last k - 1 judgements that is k, on new ones 1, and on those with a few new ones nearly k; where
a share f is new, it is at most 1 / f, so that a corpus that grows does not pay for ever. It is as if every sentence
brought 2 a / n to spend, and judgement u + 1 on it took 1 / ((u + 1) (u + 2)) of that. What is spent on one split is
never more, since x^2 / (1 + x) is convex, x = 1 / (1 + u): so all judgements on splits of n sentences or more together
let pass by luck at most 2 a for each n different sentences.

That holds as long as all that comes out of a judgement is whether it promoted: until the first promotion that is always
the same answer, so that challengers cannot be fitted to the test split by it (Blum and Hardt 2015, "The Ladder"). Who
reads its figures and works on them has to judge on other text.

What counts lies in MLflow, so that every clone sees it, as tags of the registered model: one for each judgement, which
names split, challenger, champion and what the resampling hangs on; and one for each split, a sample of its sentences.
Clones that judge at once write different tags and lose none. The same judgement once more has the same tag, and its
number.
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipeline.evaluation.params import EvaluateParams
from pipeline.evaluation.recipes import as_percentage
from pipeline.text.leaks import SAMPLED, split_sample
from pipeline.tracking.store import MODEL, Store

JUDGEMENT, TEST_SPLIT = "judgement", "test_split"  # how the tags begin
SHORT_DIGEST = 16  # characters


@dataclass(frozen=True)
class Turn:
    """The place of a judgement among all that used its test sentences."""

    number: int  # from 1
    confidence: float  # that the two-sided interval of a challenger needs
    tag: str  # of the registered model
    sample: str  # of its test sentences, with spaces between them

    def __str__(self) -> str:
        return f"judgement {self.number} on this test split, {as_percentage(self.confidence)} needed"


def needed(confidence: float, number: int) -> float:
    """The confidence that judgement `number` needs where the first one needs `confidence`."""
    return 1 - 2 * (1 - confidence) / (number * (number + 1))


def turn_of(
    store: Store, tokens: Path, challenger: str, champion: str | None, confidence: float, options: EvaluateParams
) -> Turn:
    """The place of a judgement that is about to be made; nothing is written.

    Args:
        store: where earlier ones are counted.
        tokens: whose test split it is made on.
        challenger: its version.
        champion: that of the champion, if any.
        confidence: that the first judgement on new sentences needs.
        options: of the resampling: drawn otherwise it is another judgement, as luck may be another.

    Raises:
        InputError: the tokens cannot be read.
    """
    sample = " ".join(split_sample(tokens))
    split = hashlib.sha256(sample.encode()).hexdigest()[:SHORT_DIGEST]
    pair = f"v{challenger} against {f'v{champion}' if champion else 'none'}"
    tag = f"{JUDGEMENT}/{split}/{pair} drawn {options.bootstrap_samples} times with seed {options.seed}"
    known = store.client.get_registered_model(MODEL).tags
    number = int(known[tag].partition(",")[0]) if tag in known else _number(sample, known)
    return Turn(number, needed(confidence, number), tag, sample)


def note_turn(store: Store, turn: Turn) -> None:
    """Count a judgement, once."""
    known = store.client.get_registered_model(MODEL).tags
    if turn.tag not in known:
        split = f"{TEST_SPLIT}/{_split(turn.tag)}"
        if split not in known:  # first: without it the judgement would not count
            store.client.set_registered_model_tag(MODEL, split, turn.sample)
        today = datetime.now(UTC).date().isoformat()
        store.client.set_registered_model_tag(MODEL, turn.tag, f"{turn.number}, {today}")


def _number(sample: str, known: dict[str, str]) -> int:
    """That of a new judgement on a sample of sentences; see above."""
    now = np.array(sample.split(" "))
    uses = np.zeros(len(now))
    judged = Counter(_split(tag) for tag in known if tag.startswith(f"{JUDGEMENT}/"))
    for split, times in judged.items():
        then = np.array(known.get(f"{TEST_SPLIT}/{split}", "").split(" "))
        used = np.isin(now, then)
        # Of hashes above its largest a full sample says nothing: as many of them are used as of the others.
        told = (now <= then[-1]) | (len(then) < SAMPLED)
        uses += times * np.where(told, used, used[told].mean() if told.any() else 1.0)
    return math.ceil(round(len(now) / float((1 / (1 + uses)).sum()), 6))


def _split(tag: str) -> str:
    return tag.split("/")[1]
