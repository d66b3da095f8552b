"""Which words a model predicts better than counting does: its perplexity in each frequency band, over the 5-gram's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation.bootstrap import bootstrap
from pipeline.evaluation.results import SavedScores
from pipeline.runtime.rows import rounded, write_rows

ALL_WORDS = "all words"  # the band that holds every target


@dataclass(frozen=True)
class RelativeBand:
    """One model in one band, and against the reference there."""

    model: str
    band: str
    tokens: int
    perplexity: float
    ratio: float  # to the perplexity of the reference
    ratio_low: float | None  # 95% interval; None where too little was there to be drawn
    ratio_high: float | None


def relative_bands(
    scores: Mapping[str, SavedScores], reference: str, resamples: int, seed: int
) -> dict[str, list[RelativeBand]]:
    """Each band that has a target, `ALL_WORDS` first, with every model in it in the order of `scores`.

    Intervals draw the documents that have a target in the band, the same ones for all models.

    Args:
        scores: of the same sentences, by model.
        reference: one of these models.
        resamples: of the documents.
        seed: of the resampling; equal arguments give equal results.
    """
    of_all = {model: {ALL_WORDS: (found.tokens, found.nats), **found.bands} for model, found in scores.items()}
    result = {}
    for band, (tokens_S, _) in of_all[reference].items():
        there = np.flatnonzero(tokens_S)
        if len(there):
            nats = {model: bands[band][1][there] for model, bands in of_all.items()}
            document = scores[reference].document
            units = None if document is None else np.unique(document[there], return_inverse=True)[1]
            result[band] = in_band(band, nats, tokens_S[there], units, reference, resamples, seed)
    return result


def in_band(
    band: str,
    nats: Mapping[str, np.ndarray],
    tokens_S: np.ndarray,
    document_S: np.ndarray | None,
    reference: str,
    resamples: int,
    seed: int,
) -> list[RelativeBand]:
    """Every model over the targets of one band, against `reference`.

    Args:
        band: its name.
        nats: of each model, by name, spent on these targets: (sentences,), of the sentences that have one.
        tokens_S: targets of the band in each of these.
        document_S: the index of the document of each, none left out; None: sentences are drawn.
        reference: one of the models.
        resamples: of the documents.
        seed: of the resampling.
    """
    drawn = bootstrap(np.stack([*nats.values(), tokens_S]), tokens_S, document_S, resamples, seed)
    mean_B = dict(zip(nats, drawn.sums_BK[:, :-1].T / drawn.sums_BK[:, -1], strict=True))
    total = int(tokens_S.sum())
    mean = {model: float(nats_S.sum()) / total for model, nats_S in nats.items()}
    rows = []
    for model in nats:
        low, high = drawn.interval(mean_B[model] - mean_B[reference]) or (None, None)
        ratio = float(np.exp(mean[model] - mean[reference]))
        ends = (None if end is None else float(np.exp(end)) for end in (low, high))
        rows.append(RelativeBand(model, band, total, float(np.exp(mean[model])), ratio, *ends))
    return rows


def write_relative_bands(path: Path, bands: Mapping[str, list[RelativeBand]]) -> None:
    """Write a CSV file whose columns are the fields of `RelativeBand`; an end that there is not is empty."""
    rows = [[rounded(value) for value in vars(row).values()] for found in bands.values() for row in found]
    write_rows(path, RelativeBand.__annotations__, rows)
