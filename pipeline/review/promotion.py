"""Which version is the champion, why, and how to restore an earlier one.

The pipeline names a challenger; this module decides whether it replaces the champion. A decision is a value, made
before anything changes, so that a caller can add gates before carrying it out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pipeline.evaluation.recipes import RecipeResult, SeedSpread, recipe_test, seed_spread, usual_sd
from pipeline.params import Params
from pipeline.review.comparison import ModelComparison, compare_models
from pipeline.review.conditions import Gate, better, better_than_ngram, not_trained_on, reasons
from pipeline.review.judgements import Turn, note_turn, turn_of
from pipeline.review.names import find
from pipeline.runtime.errors import InputError
from pipeline.runtime.markdown import quoted
from pipeline.runtime.paths import TOKENS
from pipeline.runtime.stopping import raise_if_stopped
from pipeline.tracking.pages import test_figures
from pipeline.tracking.registry import note_decision
from pipeline.tracking.runs import training_tokens
from pipeline.tracking.store import CHALLENGER, CHAMPION, MODEL, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

FORMER_CHAMPIONS = "former_champions"  # a tag of the registered model: comma-separated versions, the latest last
ROLLED_BACK = "rolled_back"  # a tag of versions that a person rolled back: no machine promotes them again
LONGEST_HISTORY = 1000  # champions that `rollback` can go back through


@dataclass(frozen=True)
class Verdict:
    """What is to happen to the challenger."""

    challenger: str  # its version
    champion: str | None  # the version that is champion before the verdict is carried out, if any
    gates: tuple[Gate, ...]  # the challenger is promoted if it passes all of them
    test: ModelComparison | None  # champion (A) against challenger (B); None if there was nothing to test
    turn: Turn | None = None  # of the judgements on the test split; None if it was not asked
    recipes: RecipeResult | None = None  # the test with the luck of training in it, which decides

    @property
    def outcome(self) -> Literal["promoted", "kept", "unchanged"]:
        """`kept`: the champion stays; `unchanged`: the challenger is the champion already."""
        if self.challenger == self.champion:
            return "unchanged"
        return "promoted" if all(gate.passed for gate in self.gates) else "kept"

    @property
    def reason(self) -> str:
        """Why, in sentences."""
        return " ".join(reasons(self.gates))

    def as_json(self) -> dict[str, Any]:
        """The verdict for `--json`."""
        return {
            "outcome": self.outcome,
            "challenger": self.challenger,
            "champion": self.champion,
            "reason": self.reason,
            "gates": [vars(gate) for gate in self.gates],
            "test": self.test and self.test.as_json(),
            "judgement": self.turn and {"number": self.turn.number, "confidence": self.turn.confidence},
            "recipes": self.recipes and {**vars(self.recipes), "better": self.recipes.better},
        }


def the_challenger(store: Store) -> str:
    """The version with the alias `challenger`.

    Raises:
        InputError: there is none.
    """
    challenger = store.aliases().get(CHALLENGER)
    if challenger is None:
        raise InputError("there is no challenger, as no finished run of the pipeline is in MLflow; run `dvc repro`")
    return challenger


def decide(
    store: Store,
    challenger: str,
    confidence: float,
    params: Params,
    without_old_sentences: bool = False,
    without_ngram: bool = False,
) -> Verdict:
    """Compare a challenger with the champion and the best n-gram on the current test sentences; nothing is changed.

    Args:
        store: where both are.
        challenger: its version; the alias may have moved on by the time that it is promoted, what was judged stays.
        confidence: of the two-sided interval of the recipes' difference, which has to lie on the challenger's side,
            where this is the first judgement on the test split; 0.5 to 1.
        params: the current ones.
        without_old_sentences: pass it also where nobody can tell what the two were trained on.
        without_ngram: pass it also if it is no better than the best n-gram.

    Raises:
        InputError: the two cannot be compared.
    """
    champion = store.aliases().get(CHAMPION)
    if champion == challenger:
        return Verdict(challenger, champion, (Gate("better", False, "It is the champion already."),), None)
    turn = turn_of(store, TOKENS, challenger, champion, confidence, params.evaluate)
    ngram = better_than_ngram(store, challenger, params, turn, without_ngram, without_old_sentences)
    if champion is None:
        first = Gate("better", True, "There was no champion yet.")
        return Verdict(challenger, None, (first, *ngram), None, turn if ngram else None)
    a, b = (find(store, f"v{version}") for version in (champion, challenger))
    test = compare_models(store, a, b, params)
    seeds_a, seeds_b = (_seeds_of(run, params.retrain.seed_sd) for run in (a, b))
    recipes = recipe_test(test.result, seeds_a, seeds_b, turn.confidence)
    leaks = not_trained_on(test, without_old_sentences)
    return Verdict(challenger, champion, (better(test, recipes, champion, turn), *leaks, *ngram), test, turn, recipes)


def _seeds_of(run: "Run", stated: float | Literal["auto"]) -> SeedSpread:
    """What is known of the seeds of a run's recipe."""
    default = usual_sd(training_tokens(run)) if stated == "auto" else stated
    return seed_spread(test_figures(run.data.metrics), default)


def carry_out(store: Store, verdict: Verdict) -> None:
    """Move the alias if the verdict says so, and put the reason on the versions' pages.

    Raises:
        InputError: the champion is no longer the one of the verdict; only the judgement is counted then.
        StoppedError: a signal came before the alias was moved.
    """
    if verdict.turn is not None:
        note_turn(store, verdict.turn)  # first: the test split was asked, whatever comes of it
    champion = store.aliases().get(CHAMPION)
    if champion != verdict.champion:
        now = f"v{champion} is champion" if champion else "there is no champion"
        raise InputError(f"another promotion is in progress: {now} now; try again")
    if verdict.outcome == "kept":
        _note(store, verdict.challenger, f"not promoted. {_shown(verdict)}")
    elif verdict.outcome == "promoted":
        if champion is not None:
            # Before the alias, so that a rollback stays possible; `rollback` skips a champion listed here too early.
            _write_history(store, [*former_champions(store), champion])
        raise_if_stopped("nothing was promoted")
        store.set_alias(CHAMPION, verdict.challenger)
        if champion is not None:
            _note(store, champion, f"v{verdict.challenger} took its place as champion.")
        _note(store, verdict.challenger, f"promoted to champion. {_shown(verdict)}")


def rollback(store: Store, reason: str = "") -> tuple[str, str]:
    """Restore the previous champion; returns the version that was champion, and the one that is now.

    `reason` is a sentence for the pages of both.

    Raises:
        InputError: there is no champion, or no previous one.
    """
    champion = store.aliases().get(CHAMPION)
    if champion is None:
        raise InputError("there is no champion to roll back; `rnnlm promote` makes one")
    known = {str(version.version) for version in store.versions()}
    history = former_champions(store)
    while history:
        former = history.pop()
        if former != champion and former in known:
            break
    else:
        raise InputError(f"there is nothing to go back to: no champion came before v{champion}")
    # First, so that no retraining promotes it again in between.
    store.tag_version(champion, **{ROLLED_BACK: "true"})
    store.set_alias(CHAMPION, former)
    _write_history(store, history)
    why = f" {reason}" if reason else ""
    _note(store, champion, f"rolled back, v{former} is champion again.{why}")
    _note(store, former, f"champion again, in place of v{champion}.{why}")
    return champion, former


def _shown(verdict: Verdict) -> str:
    return " ".join(map(quoted, reasons(verdict.gates)))


def _note(store: Store, version: str, decision: str) -> None:
    note_decision(store, version, f"{datetime.now(UTC).date().isoformat()}: {decision}")


def former_champions(store: Store) -> list[str]:
    """The versions that were champion and that `rollback` can go back to, the latest last; a model is registered."""
    text = store.client.get_registered_model(MODEL).tags.get(FORMER_CHAMPIONS, "")
    return text.split(",") if text else []


def _write_history(store: Store, versions: list[str]) -> None:
    store.client.set_registered_model_tag(MODEL, FORMER_CHAMPIONS, ",".join(versions[-LONGEST_HISTORY:]))
