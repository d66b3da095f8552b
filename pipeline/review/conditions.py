"""The conditions of a promotion that test against something: the champion, and counting words."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.bootstrap import drawn_in_words
from pipeline.evaluation.paired import PairedResult, paired_bootstrap
from pipeline.evaluation.recipes import NO_SPREAD, RecipeResult, recipe_test
from pipeline.evaluation.results import BASELINES, read_scores
from pipeline.model.folder import model_digest
from pipeline.params import Params, read_params
from pipeline.provenance.dvc import read_lock
from pipeline.review.comparison import ModelComparison
from pipeline.review.judgements import Turn
from pipeline.review.names import find
from pipeline.review.unseen import compared_unseen
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import EVALUATION, MODELS, TOKENS
from pipeline.tracking.store import Store

WORDS = {"A": "it is worse", "B": "it is better", None: "they cannot be told apart"}
NGRAMS = [name for key, name in BASELINES.items() if key != "unigram"]
WITHOUT_OLD_SENTENCES, WITHOUT_NGRAM = "--without-old-sentences", "--without-ngram"  # by which a person decides


@dataclass(frozen=True)
class Gate:
    """One condition of a promotion, with a sentence that says why it is met or not."""

    name: str
    passed: bool
    reason: str
    made: bool = True  # whether the check could be made; one that could not does not pass


def reasons(gates: Sequence[Gate]) -> list[str]:
    """The reasons of the gates that failed, or of all if none did."""
    return [gate.reason for gate in [gate for gate in gates if not gate.passed] or gates]


def better(test: ModelComparison, recipes: RecipeResult | None, champion: str, turn: Turn) -> Gate:
    """Whether the challenger's recipe (B) is better than that of the champion (A), by `recipe_test`."""
    result = test.result
    told = (
        f"On {result.sentences:,} test sentences ({result.tokens:,} tokens, unknown words taken as themselves) its "
        f"perplexity is {result.perplexity_b:.2f}, that of the champion v{champion} {result.perplexity_a:.2f}. "
        f"The ratio of the two is {result.ratio:.4f}, {result.ratio_interval}"
    )
    if recipes is None:
        return Gate("better", False, " ".join((f"{told}.", *test.remarks)), made=False)
    known = ((recipes.seed_sd_a, recipes.seeds_a), (recipes.seed_sd_b, recipes.seeds_b))
    spreads = ", and ".join(f"{sd:.4f}, {_whence(seeds)}" for sd, seeds in known)
    told += (
        f"; with what other seeds would give (standard deviations, in nats a token: {spreads}), "
        f"{recipes.ratio_interval}: {WORDS[recipes.better]} ({turn})."
    )
    return Gate("better", recipes.better == "B", " ".join((told, *test.remarks)))


def _whence(seeds: int | None) -> str:
    return "stated by retrain.seed_sd" if seeds is None else f"of {seeds} seeds"


def not_trained_on(test: ModelComparison, waived: bool) -> tuple[Gate, ...]:
    """A condition that is not met, where nobody can tell whether a model was trained on what both are tested on."""
    if test.left_out is not None:
        return ()
    told = test.remarks[0]
    told += (
        f" It passes all the same, as this run was told {WITHOUT_OLD_SENTENCES}."
        if waived
        else f" `dvc push` that text from a machine that has it, or decide without: {WITHOUT_OLD_SENTENCES}."
    )
    return (Gate("not trained on", waived, told, made=False),)


def in_words(result: PairedResult) -> str:
    """What the paired test of champion (A) and challenger (B) says, and what it rests on."""
    found = f"The ratio of the two is {result.ratio:.4f}, {result.ratio_interval}"
    return f"{found}." if result.ratio_low is None else f"{found}: {WORDS[result.better]}."


def better_than_ngram(
    store: Store, challenger: str, params: Params, turn: Turn, waived: bool, without_old_sentences: bool
) -> tuple[Gate, ...]:
    """Whether the challenger is better than the best model that only counts words; nothing where nobody asks for that.

    What `evaluate` and `baselines` have left is compared, so the challenger has to lie in data/. Test sentences that it
    was trained on are left out; n-grams have read the same training split.
    """
    if not params.retrain.better_than_ngram:
        return ()
    try:
        name, result, remarks = _ngram_test(store, challenger, params, without_old_sentences)
        found = recipe_test(result, NO_SPREAD, NO_SPREAD, turn.confidence)  # this model is to be better
        if found is None:
            raise InputError(result.ratio_interval)
    except InputError as error:
        made, passed, told = False, False, f"It could not be compared with the best n-gram: {error}."
    else:
        made, passed = True, found.better == "B"
        told = (
            f"The best n-gram is the {name}, with a test perplexity of {result.perplexity_a:.2f}, that of the network "
            f"{result.perplexity_b:.2f}. The ratio of the two is {result.ratio:.4f}, {found.ratio_interval} over "
            f"{drawn_in_words(result.documents, result.effective_number)}: {WORDS[found.better]}."
        )
        told = " ".join((told, *remarks))
    if not passed and waived:
        told += f" It passes all the same, as this run was told {WITHOUT_NGRAM}."
    elif not passed:
        told += f" A person may decide without it: `rnnlm promote {WITHOUT_NGRAM}`, or retrain.better_than_ngram."
    return (Gate("n-gram", passed or waived, told, made),)


def _ngram_test(
    store: Store, challenger: str, params: Params, without_old_sentences: bool
) -> tuple[str, PairedResult, tuple[str, ...]]:
    """The best n-gram, by its name, its paired test (A) with a version (B) whose figures data/ has, and remarks on it.

    Raises:
        InputError: data/ has others, or, unless that is waived, nobody can tell what the version was trained on.
    """
    tags = store.version(challenger).tags
    cell = tags["cell"]
    try:
        same = model_digest(MODELS / cell) == tags["model_digest"]
    except OSError:
        same = False
    if not same:
        raise InputError(
            f"{MODELS / cell} is not v{challenger}; check out the commit of that and `dvc repro` or `dvc pull`"
        )
    lock, current = read_lock(), read_params()
    for stage in (f"evaluate@{cell}", "baselines"):
        if stage not in lock or not lock[stage].stands(current):
            raise InputError(
                f"{EVALUATION} is not what params.yaml, dvc.lock and the data here describe; run `dvc repro {stage}`"
            )
    scores = read_scores(EVALUATION, [cell])
    network = scores[cell]
    name = min(NGRAMS, key=lambda ngram: scores[ngram].nats.sum())
    nats, run = (scores[name].nats, network.nats), find(store, f"v{challenger}")
    result, left_out, remarks = compared_unseen(paired_bootstrap, nats, network.tokens, store, [run], TOKENS, params)
    if left_out is None and not without_old_sentences:
        raise InputError(remarks[0].rstrip("."))
    return name, result, remarks
