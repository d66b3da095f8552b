"""How often the test split has been used to judge, and what confidence it takes to promote after that.

Whoever asks often enough is lucky once: of twenty challengers that are no better, one passes a test that lets pass one
in twenty. So judgement k on a split may let pass 2 a / (k (k + 1)) of those that are no better, a the share that a
first one may, (1 - confidence) / 2: the terms a, a / 3, a / 6 and so on add up to 2 a = 1 - confidence, however many
judgements there are. (A sum of chances is enough whatever hangs together with what: Bonferroni; spent over a sequence
without an end: Lan and DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials"; Foster and Stine 2008,
"Alpha-investing".) That holds as long as all that comes out of a judgement is whether it promoted: until the first
promotion that is always the same answer, so that challengers cannot be fitted to the test split by it (Blum and Hardt
2015, "The Ladder"). Who reads its figures and works on them has to judge on other text.

What counts lies in MLflow, so that every clone sees it: a tag of the registered model for each judgement, which names
the test sentences, challenger and champion. Clones that judge at once write different tags and lose none. The same
judgement once more has the same tag, and its number.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.evaluation.recipes import as_percentage
from pipeline.text.leaks import split_digest
from pipeline.tracking.store import MODEL, Store

JUDGEMENT = "judgement"
SHORT_DIGEST = 16  # characters


@dataclass(frozen=True)
class Turn:
    """The place of a judgement among all on its test split."""

    number: int  # from 1
    confidence: float  # that the two-sided interval of a challenger needs
    tag: str  # of the registered model

    def __str__(self) -> str:
        return f"judgement {self.number} on this test split, {as_percentage(self.confidence)} needed"


def needed(confidence: float, number: int) -> float:
    """The confidence that judgement `number` needs where the first one needs `confidence`."""
    return 1 - 2 * (1 - confidence) / (number * (number + 1))


def turn_of(store: Store, tokens: Path, challenger: str, champion: str | None, confidence: float) -> Turn:
    """The place of a judgement that is about to be made; nothing is written.

    Args:
        store: where earlier ones are counted.
        tokens: whose test split it is made on.
        challenger: its version.
        champion: that of the champion, if any.
        confidence: that the first judgement on a split needs.

    Raises:
        InputError: the tokens cannot be read.
    """
    split = f"{JUDGEMENT}/{split_digest(tokens)[:SHORT_DIGEST]}/"
    tag = f"{split}v{challenger} against {f'v{champion}' if champion else 'none'}"
    known = store.client.get_registered_model(MODEL).tags
    number = int(known[tag].partition(",")[0]) if tag in known else 1 + sum(key.startswith(split) for key in known)
    return Turn(number, needed(confidence, number), tag)


def note_turn(store: Store, turn: Turn) -> None:
    """Count a judgement, once."""
    if turn.tag not in store.client.get_registered_model(MODEL).tags:
        today = datetime.now(UTC).date().isoformat()
        store.client.set_registered_model_tag(MODEL, turn.tag, f"{turn.number}, {today}")
