"""The champion: promoted, kept, rolled back."""

import dataclasses
import json

import pytest

from pipeline.evaluation.recipes import usual_sd
from pipeline.params import load_params
from pipeline.review import promotion
from pipeline.review.conditions import Gate
from pipeline.review.names import find
from pipeline.review.promotion import carry_out, decide, rollback, the_challenger
from pipeline.runtime.errors import InputError
from pipeline.tracking import runs
from pipeline.tracking.store import MODEL, Store, connect
from tests.projects import Project
from tests.review.candidates import candidate, rnnlm, write_corpus


def log(project: Project) -> None:
    runs.log_evaluation(project.params, project.cell.name)


def page(store: Store, version: str) -> str:
    return store.version(version).description or ""


def promote(store: Store, confidence: float = 0.95) -> promotion.Verdict:
    verdict = decide(store, the_challenger(store), confidence, load_params())
    carry_out(store, verdict)
    return verdict


def challenged(project: Project, sentences: int, champion: float, challenger: float) -> Store:
    """A champion and a better challenger, of these powers, on a test split of so many sentences."""
    write_corpus(sentences=sentences)
    store = connect()
    candidate(project, power=champion)
    promote(store)
    candidate(project, power=challenger)
    return store


def test_only_a_challenger_that_is_surely_better_becomes_champion(project: Project) -> None:
    write_corpus()
    store = connect()
    candidate(project, power=0.5)
    first = promote(store)
    assert (first.outcome, first.champion, first.test) == ("promoted", None, None)
    assert store.aliases()["champion"] == "1"
    assert "promoted to champion. There was no champion yet." in page(store, "1")

    before = page(store, "1")
    assert promote(store).outcome == "unchanged"
    assert page(store, "1") == before

    candidate(project, power=0.0, valid=3.0)  # worse on the test split, whatever validation says
    kept = promote(store)
    assert kept.outcome == "kept"
    assert kept.test is not None
    assert kept.test.result.better == "A"
    assert kept.test.result.sentences == 200
    assert store.aliases() == {"champion": "1", "challenger": "2"}
    assert "not promoted" in page(store, "2")
    assert "200 test sentences" in page(store, "2")
    assert "over 100 documents (effective number 100.0); with what other seeds would give" in page(store, "2")
    assert "it is worse (judgement 2 on this test split, 98.3% needed)." in page(store, "2")
    assert promote(store).turn == kept.turn  # nothing new was asked

    candidate(project, power=1.0)
    better = promote(store)
    assert better.outcome == "promoted"
    assert store.aliases()["champion"] == "3"
    assert "promoted to champion" in page(store, "3")
    assert "it is better (judgement 3 on this test split, 99.17% needed)." in page(store, "3")
    assert "v3 took its place" in page(store, "1")
    assert find(store, "champion").info.run_id == store.versions()[2].run_id


def test_a_slight_gain_is_enough_for_a_low_confidence_only(project: Project) -> None:
    store = challenged(project, 50, 0.7, 0.9)
    verdict = decide(store, the_challenger(store), 0.5, load_params())
    assert verdict.outcome == "promoted"
    assert "(judgement 2 on this test split, 83% needed)" in verdict.reason
    kept = decide(store, "2", 0.999, load_params())
    assert kept.outcome == "kept"
    assert "they cannot be told apart" in kept.reason
    assert store.aliases()["champion"] == "1"  # deciding changes nothing
    assert promote(store, 0.5).outcome == "promoted"


def test_too_few_documents_promote_nobody_and_say_so(project: Project) -> None:
    store = challenged(project, 8, 0.0, 1.0)
    verdict = decide(store, the_challenger(store), 0.5, load_params())
    assert verdict.outcome == "kept"
    assert "no interval, as 4 documents (effective number 4.0) say too little" in verdict.reason


def test_retraining_one_recipe_promotes_nobody_by_luck(project: Project) -> None:
    """The challenger is surely better than the champion, but another seed might give as much."""
    store = challenged(project, 50, 0.7, 0.72)
    verdict = decide(store, "2", 0.95, load_params())
    assert verdict.test is not None
    assert (verdict.test.result.better, verdict.outcome) == ("B", "kept")
    stated = "0.0090, stated by retrain.seed_sd"
    assert f"(standard deviations, in nats a token: {stated}, and {stated})" in verdict.reason
    assert "they cannot be told apart (judgement 2 on this test split, 98.3% needed)." in verdict.reason
    # What is usual depends on how much text they learned from: hardly any here.
    params = load_params()
    auto = dataclasses.replace(params, retrain=params.retrain.model_copy(update={"seed_sd": "auto"}))
    assert f"{usual_sd(0):.4f}, stated by retrain.seed_sd" in decide(store, "2", 0.95, auto).reason
    # What the recipes' own seeds say counts for more than what is stated.
    for run in store.runs():
        store.log_points(run.info.run_id, {"test/seeds": 5.0, "test/seed_nats_sd": 0.0001}, 0)
    sure = decide(store, "2", 0.95, load_params())
    assert sure.outcome == "promoted"
    assert "0.0001, of 5 seeds, and 0.0001, of 5 seeds)" in sure.reason


def test_further_gates_can_keep_a_challenger_out(project: Project) -> None:
    write_corpus()
    store = connect()
    candidate(project)
    verdict = decide(store, the_challenger(store), 0.95, load_params())
    gate = Gate("latency", False, "It is too slow.")
    held = dataclasses.replace(verdict, gates=(*verdict.gates, gate))
    carry_out(store, held)
    assert held.outcome == "kept"
    assert held.reason == "It is too slow."
    assert "champion" not in store.aliases()


def test_who_decides_about_a_champion_that_is_none_any_more_changes_nothing(project: Project) -> None:
    write_corpus()
    store = connect()
    candidate(project, power=0.0)
    promote(store)
    candidate(project, power=0.5)
    late = decide(store, the_challenger(store), 0.95, load_params())
    assert late.outcome == "promoted"
    candidate(project, power=1.0)
    promote(store)
    before = [page(store, version) for version in ("1", "2", "3")]
    with pytest.raises(InputError, match="v3 is champion now"):
        carry_out(store, late)
    assert store.aliases()["champion"] == "3"
    assert [page(store, version) for version in ("1", "2", "3")] == before
    assert rollback(store) == ("3", "1")


@pytest.mark.slow
def test_rollback_goes_back_through_all_champions(project: Project) -> None:
    write_corpus()
    store = connect()
    with pytest.raises(InputError, match="no champion"):
        rollback(store)
    for power in (0.0, 0.5, 1.0):
        candidate(project, power)
        assert promote(store).outcome == "promoted"
    assert rollback(store, "It curses.") == ("3", "2")
    assert store.aliases()["champion"] == "2"
    assert "rolled back, v2 is champion again. It curses." in page(store, "3")
    assert "champion again, in place of v3. It curses." in page(store, "2")
    assert promote(store).outcome == "promoted"  # the challenger is as good as it was
    assert rollback(store) == ("3", "2")
    assert rollback(store) == ("2", "1")
    with pytest.raises(InputError, match="nothing to go back to: no champion came before v1"):
        rollback(store)
    assert store.aliases()["champion"] == "1"
    assert promote(store).outcome == "promoted"
    store.client.delete_model_version(MODEL, "1")
    with pytest.raises(InputError, match="nothing to go back to"):
        rollback(store)


@pytest.mark.slow
def test_the_commands_print_the_verdict_and_promote_syncs_first(project: Project) -> None:
    write_corpus()
    candidate(project, power=0.2)
    first = rnnlm("promote")
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("v1: promoted. There was no champion yet. The best n-gram is the trigram, with ")
    assert rnnlm("promote").stdout == "v1: unchanged. It is the champion already.\n"
    store = connect()
    candidate(project, power=1.0)
    store.client.delete_model_version(MODEL, "2")  # as if MLflow had missed it
    done = rnnlm("promote", "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.stdout)
    assert verdict["outcome"] == "promoted"
    assert (verdict["challenger"], verdict["champion"]) == ("3", "1")
    assert (verdict["test"]["better"], verdict["test"]["confidence"]) == ("B", 0.95)
    assert verdict["judgement"] == {"number": 2, "confidence": pytest.approx(1 - 0.1 / 6)}
    assert (verdict["recipes"]["better"], verdict["recipes"]["seed_sd_a"]) == ("B", 0.009)
    assert verdict["test"]["sentences"] == 200
    assert verdict["gates"][0]["passed"] is True
    assert rnnlm("rollback", "--reason", "Too slow.").stdout == "v1 is champion again, in place of v3\n"
    refused = rnnlm("rollback")
    assert isinstance(refused.exception, InputError)
