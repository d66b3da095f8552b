"""Perplexity by frequency band, against the 5-gram's, with intervals over the documents that have such words."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.bands import ALL_WORDS, RelativeBand, relative_bands, write_relative_bands
from pipeline.evaluation.bootstrap import bootstrap
from pipeline.evaluation.results import SavedScores

TOKENS = np.tile([3, 2, 4, 1], 10)
OFTEN = np.where(np.arange(40) < 8, TOKENS, 0)  # a band of the first eight sentences only


def scores(nats_often: float, nats_seldom: float, document: np.ndarray | None, spread: float = 0) -> SavedScores:
    chance = np.random.default_rng(int(nats_often * 10))
    seldom = TOKENS - OFTEN
    bands = {
        "1-10": (OFTEN, OFTEN * (nats_often + spread * chance.normal(0, 1, 40))),
        "11-20": (seldom, seldom * (nats_seldom + spread * chance.normal(0, 1, 40))),
        "none": (np.zeros(40, np.int64), np.zeros(40)),
    }
    return SavedScores(sum(nats for _, nats in bands.values()) + np.zeros(40), TOKENS, document, bands)


def test_every_band_with_a_target_is_there_and_all_words_come_first() -> None:
    document = np.arange(40) // 2
    of = {"5-gram": scores(2.0, 5.0, document), "lstm": scores(1.5, 5.5, document)}
    bands = relative_bands(of, "5-gram", 100, 1)
    assert list(bands) == [ALL_WORDS, "1-10", "11-20"]
    assert [row.tokens for _, row in bands.values()] == [100, 20, 80]
    for (reference, lstm), nats, more in zip(bands.values(), (4.4, 2, 5), (0.3, -0.5, 0.5), strict=True):
        assert (reference.model, lstm.model) == ("5-gram", "lstm")
        assert reference.perplexity == pytest.approx(np.exp(nats))
        assert (reference.ratio, reference.ratio_low, reference.ratio_high) == (1, 1, 1) or reference.ratio_low is None
        assert lstm.ratio == pytest.approx(np.exp(more))
    # Four documents have words of the first band: too few for an interval there, and for that band alone.
    assert [row.ratio_low is None for _, row in bands.values()] == [False, True, False]
    seldom = bands["11-20"][1]
    assert [seldom.ratio_low, seldom.ratio_high] == pytest.approx([seldom.ratio, seldom.ratio])


@pytest.mark.parametrize("has_documents", [True, False])
def test_intervals_draw_the_documents_that_have_such_words_or_sentences(has_documents: bool) -> None:
    document = np.arange(40) // 2 if has_documents else None
    of = {"5-gram": scores(2.0, 5.0, document, 0.3), "lstm": scores(1.5, 5.5, document, 0.3)}
    row = relative_bands(of, "5-gram", 200, 7)["11-20"][1]
    tokens = (TOKENS - OFTEN)[8:]
    spent = [found.bands["11-20"][1][8:] for found in of.values()]
    drawn = bootstrap(np.stack([*spent, tokens]), tokens, np.arange(32) // 2 if has_documents else None, 200, 7)
    reference_B, lstm_B, tokens_B = drawn.sums_BK.T
    ends = drawn.interval((lstm_B - reference_B) / tokens_B) or pytest.fail("withheld")
    assert [row.ratio_low, row.ratio_high] == pytest.approx(np.exp(ends).tolist())
    assert drawn.documents == (16 if has_documents else None)


def test_the_table_leaves_an_end_empty_where_there_is_none(tmp_path: Path) -> None:
    rows = [
        RelativeBand("lstm", "1-10", 9, 7.12345678, 0.5, 0.4, 0.6),
        RelativeBand("rnn", "1-10", 9, 7.0, 1.0, None, None),
    ]
    write_relative_bands(tmp_path / "bands.csv", {"1-10": rows})
    assert (tmp_path / "bands.csv").read_text() == (
        "model,band,tokens,perplexity,ratio,ratio_low,ratio_high\nlstm,1-10,9,7.12346,0.5,0.4,0.6\nrnn,1-10,9,7.0,1.0,,\n"
    )
