"""Which version is the champion, why, and the way back.

The pipeline names a challenger; here it is decided whether it takes the champion's place. A decision is a value, made
before anything is changed: more gates can be added to it before it is carried out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.params import Params
from pipeline.review.comparison import ModelComparison, compare_models
from pipeline.review.listing import find
from pipeline.runtime.errors import InputError
from pipeline.tracking.registry import note_decision
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store

HISTORY = "former_champions"  # a tag of the registered model: versions, the latest last, commas between
ROLLED_BACK = "rolled_back"  # a tag of versions that a person took back: no machine promotes them again
LONGEST_HISTORY = 1000  # champions that `rollback` can go back through


@dataclass(frozen=True)
class Gate:
    """One condition of a promotion: its name, whether it is met, and a sentence that says why."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What is to happen to the challenger.

    Attributes:
        challenger: its version.
        champion: the version that is champion as yet; None where there is none.
        gates: the challenger is promoted if it passes all of them.
        test: champion (A) against challenger (B); None where there was nothing to test.
    """

    challenger: str
    champion: str | None
    gates: tuple[Gate, ...]
    test: ModelComparison | None

    @property
    def outcome(self) -> Literal["promoted", "kept", "unchanged"]:
        """`kept`: the champion stays; `unchanged`: the challenger is the champion already."""
        if self.challenger == self.champion:
            return "unchanged"
        return "promoted" if all(gate.passed for gate in self.gates) else "kept"

    @property
    def reason(self) -> str:
        """The sentences of the gates; where one has failed, of those that have."""
        told = [gate for gate in self.gates if not gate.passed] or self.gates
        return " ".join(gate.reason for gate in told)

    def as_json(self) -> dict[str, Any]:
        """The verdict for `--json`; `champion` is the one before it was carried out."""
        return {
            "outcome": self.outcome,
            "challenger": self.challenger,
            "champion": self.champion,
            "reason": self.reason,
            "gates": [vars(gate) for gate in self.gates],
            "test": self.test and self.test.as_json(),
        }


def decide(store: Store, confidence: float, params: Params) -> Verdict:
    """Hold the challenger against the champion, on the test sentences of today; nothing is changed.

    Args:
        store: an open store.
        confidence: that the challenger is better, which is needed for a promotion, from 0 to 1.
        params: today's.

    Raises:
        InputError: there is no challenger, or the two cannot be compared.
    """
    named = store.aliases()
    challenger, champion = named.get(CHALLENGER), named.get(CHAMPION)
    if challenger is None:
        raise InputError("there is no challenger, as no finished run of the pipeline is in MLflow; run `dvc repro`")
    if champion is None:
        return Verdict(challenger, None, (Gate("better", True, "There was no champion yet."),), None)
    if champion == challenger:
        return Verdict(challenger, champion, (Gate("better", False, "It is the champion already."),), None)
    test = compare_models(store, find(store, f"v{champion}"), find(store, f"v{challenger}"), params)
    return Verdict(challenger, champion, (_better(test, champion, confidence),), test)


def carry_out(store: Store, verdict: Verdict) -> None:
    """Move the alias if the verdict says so, and put the reason on the pages of the versions.

    Raises:
        InputError: the champion is not the one that the verdict is about; nothing is changed then.
    """
    champion = store.aliases().get(CHAMPION)
    if champion != verdict.champion:
        now = f"is v{champion}" if champion else "is gone"
        raise InputError(f"another promotion is in progress: the champion {now} meanwhile; try again")
    if verdict.outcome == "unchanged":
        return
    if verdict.outcome == "kept":
        note_decision(store, verdict.challenger, f"{_today()}: not promoted. {verdict.reason}")
        return
    if verdict.champion is not None:
        # Before the alias, lest a way back be lost; `rollback` passes over a champion that is named here too soon.
        _write_history(store, [*_history(store), verdict.champion])
        note_decision(store, verdict.champion, f"{_today()}: v{verdict.challenger} took its place as champion.")
    store.set_alias(CHAMPION, verdict.challenger)
    note_decision(store, verdict.challenger, f"{_today()}: promoted to champion. {verdict.reason}")


def rollback(store: Store, reason: str = "") -> tuple[str, str]:
    """Make the champion before this one champion again.

    Args:
        store: an open store.
        reason: a sentence for the pages of both versions.

    Returns:
        The version that was champion, and the one that is now.

    Raises:
        InputError: there is no champion, or none came before it.
    """
    champion = store.aliases().get(CHAMPION)
    if champion is None:
        raise InputError("there is no champion, so nothing to go back from; `rnnlm promote` makes one")
    known = {str(version.version) for version in store.versions()}
    history = _history(store)
    while history:
        former = history.pop()
        if former != champion and former in known:
            break
    else:
        raise InputError(f"there is nothing to go back to: no champion came before v{champion}")
    # First, lest a retraining in between promotes it again.
    store.tag_version(champion, **{ROLLED_BACK: "true"})
    store.set_alias(CHAMPION, former)
    _write_history(store, history)
    why = f" {reason}" if reason else ""
    note_decision(store, champion, f"{_today()}: rolled back, v{former} is champion again.{why}")
    note_decision(store, former, f"{_today()}: champion again, in place of v{champion}.{why}")
    return champion, former


def _better(test: ModelComparison, champion: str, needed: float) -> Gate:
    result = test.result
    passed = result.confidence >= needed
    reason = (
        f"On {result.sentences:,} test sentences ({result.tokens:,} tokens, unknown words taken as themselves) its "
        f"perplexity is {result.perplexity_b:.2f}, that of the champion v{champion} {result.perplexity_a:.2f}. "
        f"Confidence that it is better: {result.confidence:.1%}; {needed:.1%} is needed."
    )
    return Gate("better", passed, " ".join((reason, *test.remarks)))


def _history(store: Store) -> list[str]:
    text = store.client.get_registered_model(MODEL).tags.get(HISTORY, "")
    return text.split(",") if text else []


def _write_history(store: Store, versions_: list[str]) -> None:
    store.client.set_registered_model_tag(MODEL, HISTORY, ",".join(versions_[-LONGEST_HISTORY:]))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
