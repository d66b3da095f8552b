"""A paired test on the test sentences that no model in it was trained on, be it by the weights that it began with."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE, for_verdicts
from pipeline.evaluation.paired import PairedResult
from pipeline.params import Params
from pipeline.provenance.dvc import dvc_digest, restore
from pipeline.review.names import named
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import TOKENS
from pipeline.text.leaks import seen_in_training
from pipeline.text.tokens import read_documents_of
from pipeline.tracking.record import read_provenance
from pipeline.tracking.runs import BEGUN_WITH, REMOVED
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

Remarks = tuple[str, ...]


def compared_unseen(
    test: Callable[..., PairedResult],
    nats: tuple[np.ndarray, np.ndarray],
    counts: np.ndarray,
    store: Store,
    runs: "Sequence[Run]",
    tokens: Path,
    params: Params,
    confidence: float = CONFIDENCE,
) -> tuple[PairedResult, int | None, Remarks]:
    """Compare two models, or recipes, on what neither has seen in training.

    Args:
        test: `paired_bootstrap` or `paired_recipes`.
        nats: of the two, (sentences,) or (seeds, sentences).
        counts: (sentences,) tokens of each test sentence.
        store: where the runs are.
        runs: of the models.
        tokens: whose test split it is.
        params: the current ones.
        confidence: of the interval that decides.

    Returns:
        The result, how many sentences are left out (None: nobody can tell, and none is), and remarks: on that,
        which comes first, and on what counts as one document.

    Raises:
        InputError: no sentence would remain, or a perplexity is not a finite number.
    """
    kept, left_out, remarks = _kept(store, runs, tokens, len(counts))
    documents, options = read_documents_of(tokens, "test"), params.evaluate
    if documents is not None:
        documents = np.unique(documents[kept], return_inverse=True)[1]
    a, b = (part[..., kept] for part in nats)
    resamples = for_verdicts(options.bootstrap_samples, counts[kept], documents)
    result = test(a, b, counts[kept], documents, resamples, options.seed, confidence)
    together = params.download.together if documents is not None else None
    return result, left_out, (*remarks, *([together] if together else []))


def _kept(store: Store, runs: "Sequence[Run]", tokens: Path, sentences: int) -> tuple[np.ndarray, int | None, Remarks]:
    """The test sentences to compare on, bool (sentences,); see `compared_unseen` for the others."""
    try:
        seen = _seen(store, runs, tokens)
    except InputError as error:
        told = f"Whether one of them was trained on some of these sentences cannot be told: {error}."
        return np.ones(sentences, bool), None, (told,)
    count = int(seen.sum())
    if count == sentences:
        raise InputError("every test sentence was in the training split of one of the models; add text, or train anew")
    told = f"{count:,} of {sentences:,} test sentences were in the training split of one of them and are left out."
    return ~seen, count, (told,) if count else ()


def _seen(store: Store, runs: "Sequence[Run]", tokens: Path) -> np.ndarray:
    """Which test sentences one of the runs was trained on, or a model that it began with.

    Raises:
        InputError: what a run was trained on is not known, or nobody has it any more.
    """
    with tempfile.TemporaryDirectory() as folder:
        training = {dvc_digest(tokens): tokens}
        wanted = [_text_of(store, run, training, Path(folder)) for run in _with_ancestors(store, runs)]
        return seen_in_training(tokens, list(dict.fromkeys(wanted)))


def _text_of(store: Store, run: "Run", known: dict[str, Path], folder: Path) -> Path:
    """The tokens that a run has read: one of the `known`, by their digests, or else they are restored to `folder`.

    Raises:
        InputError: which they are is not known, or nobody has them any more.
    """
    provenance = read_provenance(store, run.info.run_id)
    record = provenance.stages.get("tokenize") if provenance else None
    digest = record.outs.get(TOKENS.as_posix()) if record else None
    if digest is None:
        raise InputError(f"MLflow does not say what {named(run)} was trained on")
    if digest not in known:  # often all have read the same
        known[digest] = folder / digest
        restore(f"the text of {named(run)}", digest, known[digest])
    return known[digest]


def seen_by_ancestors(store: Store, run: "Run") -> str | None:
    """What to know of the test figures of a run whose training began with another model's weights; None: nothing."""
    if BEGUN_WITH not in run.data.tags:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            known = {dvc_digest(TOKENS): TOKENS} if TOKENS.is_file() else {}
            seen = _seen(store, [run], _text_of(store, run, known, Path(folder)))
        except InputError as error:
            return f"Whether the models before it were trained on some of its test sentences cannot be told: {error}."
    if not seen.any():
        return None
    return (
        f"{seen.sum():,} of its {len(seen):,} test sentences were in the training split of a model whose weights "
        "training began with, so its test figures flatter it."
    )


def _with_ancestors(store: Store, runs: "Sequence[Run]") -> "list[Run]":
    """The runs, those of the models whose weights they began with, and those of theirs, and so on.

    Raises:
        InputError: MLflow does not have one.
    """
    found = {run.info.run_id: run for run in runs}
    waiting = list(runs)
    while waiting:
        run = waiting.pop()
        digest = run.data.tags.get(BEGUN_WITH)
        if digest is None:
            continue
        earlier = store.find_run(digest) or store.newest_run(f"tags.{REMOVED} = '{digest}'")
        if earlier is None:
            raise InputError(f"MLflow does not have the model whose weights {named(run)} began with")
        if earlier.info.run_id not in found:
            found[earlier.info.run_id] = earlier
            waiting.append(earlier)
    return list(found.values())
