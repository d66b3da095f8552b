"""Every model against every other: by hand, and how often luck makes a verdict."""

import csv
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import FEWEST_UNITS, Bootstrap, for_verdicts
from pipeline.evaluation.matrix import Matrix, Pair, compare_all, holm
from pipeline.evaluation.paired import paired_bootstrap

MODELS = 20


def drawn(effective: float) -> Bootstrap:
    return Bootstrap(np.empty((0, 0)), 9, effective, effective - 1)


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    corrected = holm(np.array([0.04, 0.001, 0.02, 0.021, 0.9]))
    assert corrected.tolist() == pytest.approx([0.08, 0.005, 0.08, 0.08, 0.9])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]


@pytest.mark.parametrize("effective", [FEWEST_UNITS, 12.5, 200])
def test_p_is_below_5_percent_exactly_where_the_interval_leaves_out_0(effective: float) -> None:
    chance = np.random.default_rng(1)
    figures_FB = chance.gamma(2, 1, (400, 100)) - 2 + chance.normal(0, 3, 400)[:, None]
    low_F, high_F, p_F = drawn(effective).tests(figures_FB) or pytest.fail("withheld")
    assert [drawn(effective).interval(figure_B) for figure_B in figures_FB] == list(zip(low_F, high_F, strict=True))
    outside_F = (low_F > 0) | (high_F < 0)
    assert ((p_F < 0.05) == outside_F).all()
    assert 50 < outside_F.sum() < 350


@pytest.mark.parametrize(("effective", "t", "p"), [(6, 4.0321, 0.01), (11, 4.5869, 0.001), (61, 4.1696, 1e-4)])
def test_far_out_p_is_that_of_students_distribution_though_no_resample_is_there(
    effective: float, t: float, p: float
) -> None:
    # As many values of the normal distribution as shares of it, so that there is no chance in their mean and spread.
    normal_B = np.random.default_rng(0).normal(0, 1, 20_000)
    normal_B = (normal_B - normal_B.mean()) / normal_B.std()
    figures_FB = (normal_B + t * (effective / (effective - 1)) ** 0.5)[None]
    _, _, (found,) = drawn(effective).tests(figures_FB) or pytest.fail("withheld")
    assert found == pytest.approx(p, rel=0.25)


def simulated(chance: np.random.Generator, gains: np.ndarray, documents: int = 40) -> Matrix:
    """Models by their gain in nats a token. Lengths of documents are uneven, and so is what models spend on them.

    How much models differ grows with a document's length as in the default corpus, where part of it cancels out.
    """
    tokens = chance.lognormal(5, 0.7, documents).astype(np.int64) + 1
    hard = chance.normal(4, 0.5, documents)
    nats = {
        f"m{number}": tokens * (hard - gain) + tokens**0.73 * chance.normal(0, 0.3, documents)
        for number, gain in enumerate(gains)
    }
    return compare_all(nats, tokens, np.arange(documents), 250, int(chance.integers(1 << 30)))


def test_of_twenty_equal_models_luck_makes_a_verdict_in_at_most_five_percent_of_matrices() -> None:
    chance, times, corrected, uncorrected = np.random.default_rng(7), 200, 0, 0
    for _ in range(times):
        pairs = simulated(chance, np.zeros(MODELS)).pairs
        assert len(pairs) == MODELS * (MODELS - 1) / 2
        corrected += any(pair.better for pair in pairs)
        uncorrected += any(pair.p < 0.05 for pair in pairs)
    assert corrected / times <= 0.05
    assert uncorrected / times > 0.9


def test_among_twenty_models_real_differences_are_found_and_only_these() -> None:
    gains = np.repeat([0.2, 0.0], MODELS // 2)
    pairs = simulated(np.random.default_rng(8), gains).pairs
    better = {(pair.model, pair.other) for pair in pairs if pair.better}
    assert better == {(f"m{good}", f"m{poor}") for good in range(10) for poor in range(10, 20)}


def test_a_pair_of_two_models_says_what_the_paired_test_says() -> None:
    chance = np.random.default_rng(3)
    tokens, document = chance.integers(2, 30, 200), np.arange(200) // 5
    nats = {name: tokens * chance.normal(4, 0.3, 200) for name in "ab"}
    matrix = compare_all(nats, tokens, document, 300, 5)
    (pair,) = matrix.pairs
    result = paired_bootstrap(nats[pair.other], nats[pair.model], tokens, document, 300, 5)
    assert [pair.ratio, pair.ratio_low, pair.ratio_high] == pytest.approx(
        [result.ratio, result.ratio_low, result.ratio_high]
    )
    assert pair.p == pair.p_holm
    assert matrix.perplexities == pytest.approx({pair.model: result.perplexity_b, pair.other: result.perplexity_a})
    assert (matrix.documents, matrix.effective_number) == (result.documents, result.effective_number)


def test_a_model_cannot_be_told_from_its_copy_and_always_from_one_that_is_worse_everywhere() -> None:
    tokens = np.arange(1, 31)
    nats = {"one": 4.0 * tokens, "copy": 4.0 * tokens, "worse": 4.1 * tokens}
    matrix = compare_all(nats, tokens, None, 100, 1)
    assert [(pair.model, pair.other, pair.p == 1, pair.better) for pair in matrix.pairs] == [
        ("one", "copy", True, False),
        ("one", "worse", False, True),
        ("copy", "worse", False, True),
    ]
    assert matrix.sentences() == [
        "one (perplexity 54.6) beats worse; it cannot be told apart from copy.",
        "copy (perplexity 54.6) beats worse.",
    ]
    assert "over sentences, as there are no documents (effective number 22.9), corrected" in matrix.about()
    assert matrix.table() == [
        ["perplexity against that of", "1", "2", "3"],
        ["1 one", "", "+0.0%", "**-9.5%**"],
        ["2 copy", "+0.0%", "", "**-9.5%**"],
        ["3 worse", "**+10.5%**", "**+10.5%**", ""],
    ]


def test_too_few_documents_are_a_sentence_instead_of_a_matrix() -> None:
    tokens = np.arange(1, 31)
    matrix = compare_all({"one": 4.0 * tokens, "two": 4.1 * tokens}, tokens, np.arange(30) % 4, 100, 1)
    assert (matrix.pairs, matrix.sentences()) == ([], [])
    assert matrix.about() == (
        "Whether any of these models is better than another cannot be told: no interval, as 4 documents (effective "
        "number 4.0) say too little: at least 5 are needed."
    )


def of_verdicts(names: str, beaten: str) -> str:
    """The first sentence of a matrix of models with these letters, the first of which beats some of the others."""
    first, *others = names
    pairs = [Pair(first, other, 0.9, 0.8, 0.95, 0.001, 0.001 if other in beaten else 1.0) for other in others]
    return Matrix(dict.fromkeys(names, 9.0), pairs, 9, 9.0).sentences()[0].removeprefix("a (perplexity 9.0) ")


@pytest.mark.parametrize(
    ("names", "beaten", "said"),
    [
        ("abcd", "bcd", "beats b, c and d."),
        ("abcd", "", "cannot be told apart from b, c and d."),
        ("abcdefgh", "bcdefgh", "beats all 7 below it."),
        ("abcdefgh", "", "cannot be told apart from the 7 below it."),
        ("abcdefgh", "cdefgh", "beats all below it but b, from which it cannot be told apart."),
        ("abcdefgh", "h", "beats h; it cannot be told apart from the 6 others below it."),
        ("abcdefghijklm", "hijklm", "beats h, i, j, k, l and m; it cannot be told apart from the 6 others below it."),
    ],
)
def test_sentences_stay_short_however_many_models_there_are(names: str, beaten: str, said: str) -> None:
    assert of_verdicts(names, beaten) == said


def test_pairs_csv_has_every_pair_and_its_verdict(tmp_path: Path) -> None:
    pairs = [Pair("a", "b", 0.9, 0.8, 1.12345678, 0.03, 0.06), Pair("a", "c", 0.5, 0.4, 0.6, 1e-9, 2e-9)]
    Matrix({"a": 1.0, "b": 2.0, "c": 3.0}, pairs, 9, 9.0).write(tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["model", "other", "ratio", "ratio_low", "ratio_high", "p", "p_holm", "better"],
            ["a", "b", "0.9", "0.8", "1.12346", "0.03", "0.06", "cannot be told"],
            ["a", "c", "0.5", "0.4", "0.6", "1e-09", "2e-09", "yes"],
        ]


@pytest.mark.parametrize(("gain", "told"), [(0.0032, False), (0.005, True)])  # p = 0.063 and 0.040
def test_another_seed_of_the_resampling_turns_no_verdict_round(gain: float, told: bool) -> None:
    chance, documents = np.random.default_rng(1), 175
    tokens = chance.lognormal(5, 0.7, documents).astype(np.int64) + 1
    hard = chance.normal(4, 0.5, documents)
    nats = {
        name: tokens * (hard - gained) + tokens**0.73 * chance.normal(0, 0.3, documents)
        for name, gained in (("a", 0.0), ("b", gain))
    }

    def verdicts(resamples: int, seeds: int) -> set[bool]:
        drawn = (compare_all(nats, tokens, np.arange(documents), resamples, seed) for seed in range(seeds))
        return {matrix.pairs[0].better for matrix in drawn}

    assert verdicts(for_verdicts(1000, tokens, None), 3) == {told}
    assert verdicts(1000, 20) == {True, False}
    assert for_verdicts(200_000, tokens, None) == 200_000
    assert for_verdicts(1000, np.ones(10**6), np.arange(10**6) // 2) == 1000
