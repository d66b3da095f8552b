"""Whether retraining promotes the challenger: the test of `rnnlm promote`, and the limits of params.yaml."""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.results import read_metrics
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.model.folder import model_digest
from pipeline.params import Params, RetrainParams
from pipeline.provenance.dvc import dvc_digest, restore
from pipeline.review.comparison import compare_models
from pipeline.review.conditions import WITHOUT_OLD_SENTENCES, Gate, in_words
from pipeline.review.names import find
from pipeline.review.promotion import ROLLED_BACK, Verdict, carry_out, decide
from pipeline.runtime.errors import InputError
from pipeline.runtime.hashes import fingerprint
from pipeline.runtime.paths import ENCODED, EVALUATION, MODELS, TOKENS
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.tracking.record import read_provenance
from pipeline.tracking.store import CHAMPION, Store
from pipeline.training.history import best_cell

JUDGED = "judged"  # a tag of a version: what it was judged by, hashed
TIMED_TOKENS, TIMED_REPEATS = 20_000, 3


@dataclass(frozen=True)
class Candidate:
    """The best model of data/ on the validation split."""

    cell: str  # its name
    digest: str  # as in the tag `model_digest`
    metrics: dict[str, Any]  # its metrics.json, on the current test sentences


def candidate(params: Params) -> Candidate:
    """The best model of data/.

    Raises:
        InputError: a result is missing or damaged.
    """
    cell = best_cell(MODELS, list(params.cells))
    return Candidate(cell, model_digest(MODELS / cell), read_metrics(EVALUATION / cell / "metrics.json"))


def limits(metrics: Mapping[str, Any], tokens_per_second: float, params: RetrainParams) -> tuple[Gate, ...]:
    """What a model has to meet whatever the champion is; a figure that is not a number meets no limit."""
    perplexity, unknown = (float(metrics.get(key, "nan")) for key in ("perplexity", "unknown_share"))
    return (
        Gate(
            "perplexity",
            perplexity <= params.worst_perplexity,
            f"Its test perplexity is {perplexity:.2f}; at most {params.worst_perplexity:g} is allowed.",
        ),
        Gate(
            "unknown words",
            unknown <= params.largest_unknown_share,
            f"It does not know {unknown:.2%} of the test tokens; at most {params.largest_unknown_share:.2%} may be.",
        ),
        Gate(
            "speed",
            tokens_per_second >= params.slowest_scoring,
            f"It scores {tokens_per_second:,.0f} tokens a second; at least {params.slowest_scoring:,g} is needed.",
        ),
    )


def scoring_speed(model_folder: Path) -> float:
    """Test tokens per second that a model scores on this machine: the median of a few runs, as others may disturb one.

    A run takes `TIMED_TOKENS` tokens at least, over and over the same ones where the test split has fewer: of a few
    hundred the first steps and whatever else the machine does would be most of the time.
    """
    predictor = Predictor.load(model_folder)
    test = load_split(ENCODED / "test", len(predictor.vocabulary))
    ends_S = np.cumsum(np.tile(test.lengths, -(-TIMED_TOKENS // test.tokens)))
    sentences = np.arange(np.searchsorted(ends_S, TIMED_TOKENS) + 1) % len(test)
    part = EncodedSplit.of(test.ids[test.offsets[s] : test.offsets[s + 1]].tolist() for s in sentences)
    speeds = []
    for _ in range(TIMED_REPEATS):
        start = time.perf_counter()
        score_split(predictor, part, "speed of scoring")
        speeds.append(part.tokens / (time.perf_counter() - start))
    return statistics.median(speeds)


def registered(store: Store, found: Candidate) -> str:
    """The candidate's version.

    Raises:
        InputError: MLflow has none.
    """
    version = store.version_of(found.digest)
    if version is None:
        raise InputError(f"the model of {found.cell} has no version in MLflow; see what `rnnlm sync` says")
    return str(version.version)


def judged_before(store: Store, version: str, params: Params) -> str | None:
    """Why a version needs no verdict: it is the champion, or the same was judged before; None if it needs one."""
    champion = store.aliases().get(CHAMPION)
    if champion == version:
        return f"v{champion} is the champion already."
    if store.version(version).tags.get(JUDGED) == _judged_by(champion, params):
        return (
            f"v{version} was judged before, on the same sentences, with the same limits and against the same "
            "champion; its page in MLflow says how."
        )
    return None


def judge(
    store: Store,
    found: Candidate,
    version: str,
    tokens_per_second: float,
    params: Params,
    without_old_sentences: bool = False,
) -> Verdict:
    """The verdict on a version of the candidate; nothing is changed. A check that cannot be made is not passed.

    Args:
        store: where it is.
        found: the candidate.
        version: of it.
        tokens_per_second: that it scores.
        params: the current ones.
        without_old_sentences: pass it also where the champion's text cannot be had.
    """
    limited = limits(found.metrics, tokens_per_second, params.retrain)
    try:
        verdict = decide(store, version, params.retrain.confidence, params, without_old_sentences)
    except InputError as error:
        told = f"It cannot be compared with the champion: {error}."
        verdict = Verdict(version, store.aliases().get(CHAMPION), (Gate("better", False, told, made=False),), None)
    if verdict.test is not None and params.retrain.old_sentences:
        limited = (*_old_sentences(store, verdict, params, without_old_sentences), *limited)
    if store.version(version).tags.get(ROLLED_BACK):
        told = "It was champion before and was rolled back; only `rnnlm promote` considers it again."
        limited = (*limited, Gate("not rolled back", False, told))
    return dataclasses.replace(verdict, gates=(*verdict.gates, *limited))


def _old_sentences(store: Store, verdict: Verdict, params: Params, waived: bool) -> tuple[Gate, ...]:
    """Whether the challenger is as good on the champion's test sentences; nothing if those are the current ones.

    The current test sentences come from the current text. If that is bad, a model that learned it wins on it.
    """
    champion, challenger = (find(store, f"v{version}") for version in (verdict.champion, verdict.challenger))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TOKENS.name
        try:
            provenance = read_provenance(store, champion.info.run_id)
            record = provenance.stages.get("tokenize") if provenance else None
            digest = record.outs.get(TOKENS.as_posix()) if record else None
            if digest == dvc_digest(TOKENS):
                return ()
            if digest is None:
                raise InputError("MLflow does not say which they were")
            restore("the champion's test sentences", digest, path)
            # Not more than for a first judgement: here the challenger has the benefit of the doubt.
            test = compare_models(store, champion, challenger, params, path, params.retrain.confidence)
            result = test.result
            if result.ratio_low is None or test.left_out is None:
                raise InputError(result.ratio_interval if test.left_out is not None else test.remarks[0].rstrip("."))
        except InputError as error:
            told = f"It could not be tested on the test sentences of champion v{verdict.champion}: {error}."
            if waived:
                told += f" It passes all the same, as this run was told {WITHOUT_OLD_SENTENCES}."
            else:
                told += f" `dvc push` them from a machine that has them, or decide without: {WITHOUT_OLD_SENTENCES}."
            return (Gate("old sentences", waived, told, made=False),)
    return (
        Gate(
            "old sentences",
            result.better != "A",
            f"On the {result.sentences:,} sentences that the champion was tested on its perplexity is "
            f"{result.perplexity_b:.2f}, that of the champion {result.perplexity_a:.2f}. "
            + " ".join((in_words(result), *test.remarks)),
        ),
    )


def settle(store: Store, verdict: Verdict, params: Params) -> None:
    """Carry the verdict out, and note what it rests on, so that the same trigger needs no second one.

    A verdict without one of its checks is given again once that can be made.

    Raises:
        InputError: a person has rolled the challenger back meanwhile, or the champion is another one.
        StoppedError: a signal came before the alias was moved.
    """
    if verdict.outcome == "promoted" and store.version(verdict.challenger).tags.get(ROLLED_BACK):
        raise InputError(
            f"v{verdict.challenger} was rolled back while it was judged; only `rnnlm promote` considers it"
        )
    carry_out(store, verdict)
    if all(gate.made for gate in verdict.gates):
        store.tag_version(verdict.challenger, **{JUDGED: _judged_by(verdict.champion, params)})


def champion_figures(store: Store, version: str | None) -> dict[str, float]:
    """The figures that a version was registered with, by the keys of metrics.json; empty if there is no version."""
    if version is None:
        return {}
    tags = store.version(version).tags
    names = {"perplexity": "test_perplexity", "accuracy_top1": "test_accuracy_top1"}
    names |= {f"perplexity_{end}": f"test_perplexity_{end}" for end in ("low", "high")}
    return {key: float(tags[tag]) for key, tag in names.items() if tag in tags}


def _judged_by(champion: str | None, params: Params) -> str:
    return fingerprint(
        {
            "champion": champion,
            "tokens": dvc_digest(TOKENS),
            "limits": json.loads(params.retrain.model_dump_json(exclude={"warm_start"})),
            "evaluate": json.loads(params.evaluate.model_dump_json()),
        }
    )
