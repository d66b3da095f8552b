"""How well a model predicts: sums per sentence and per frequency band, and the figures made from them.

A model, network or n-grams, gives for every target of the test split the nats it spent, -ln P(target | words before),
and the target's rank, the number of words it held to be more probable. SENTENCE_END is a target, SENTENCE_START is not.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, write_text
from pipeline.text.vocabulary import END_ID, SENTENCE_END, UNKNOWN_TOKEN

# Ranks by training frequency at which a band ends; the rest of the words is the last band.
BAND_LIMITS = (10, 100, 1000)
INTERVAL = 95  # percent
DECIMALS = 6  # of what metrics.json holds: far below any interval, and short enough to read


@dataclass(frozen=True)
class SentenceScores:
    """Sums over the targets of each sentence, every array `(sentences,)`; what the bootstrap draws from."""

    tokens: np.ndarray  # int64: targets, SENTENCE_END counted
    nats: np.ndarray  # float64: -ln P(sentence)
    top1: np.ndarray  # int64: targets that were the most probable word
    top5: np.ndarray  # int64: targets among the five most probable words
    unknown: np.ndarray  # int64: targets that are UNKNOWN_TOKEN
    nats_unknown: np.ndarray  # float64: nats spent on these

    def __len__(self) -> int:
        return len(self.tokens)


class Band(NamedTuple):
    """One row of bands.csv."""

    band: str
    tokens: int
    perplexity: float


class ScoreSums:
    """Gathers scores batch by batch, so that no array of all targets is ever held.

    Args:
        sentences: number of sentences of the split.
        vocabulary_size: C; ids 2..C-2 are words by falling training count, C-1 is UNKNOWN_TOKEN.
    """

    def __init__(self, sentences: int, vocabulary_size: int) -> None:
        self._unknown_id = vocabulary_size - 1
        self._names, self._band_of_id = _bands(vocabulary_size)
        self._band_tokens = np.zeros(len(self._names), np.int64)
        self._band_nats = np.zeros(len(self._names))
        self.sentences = SentenceScores(
            *(np.zeros(sentences, np.float64 if "nats" in field.name else np.int64) for field in fields(SentenceScores))
        )

    def add(self, sentence_N: np.ndarray, target_N: np.ndarray, nats_N: np.ndarray, rank_N: np.ndarray) -> None:
        """Add N targets, in any order: the sentence each stands in, its id, its nats and its rank (0 is the best)."""
        nats_N = nats_N.astype(np.float64)
        unknown_N = target_N == self._unknown_id
        np.add.at(self.sentences.tokens, sentence_N, 1)
        np.add.at(self.sentences.nats, sentence_N, nats_N)
        np.add.at(self.sentences.top1, sentence_N, rank_N < 1)
        np.add.at(self.sentences.top5, sentence_N, rank_N < 5)
        np.add.at(self.sentences.unknown, sentence_N, unknown_N)
        np.add.at(self.sentences.nats_unknown, sentence_N[unknown_N], nats_N[unknown_N])
        band_N = self._band_of_id[target_N]
        np.add.at(self._band_tokens, band_N, 1)
        np.add.at(self._band_nats, band_N, nats_N)

    def bands(self) -> list[Band]:
        """Perplexity by training frequency of the target; a band without a target is left out."""
        return [
            Band(name, int(tokens), _rounded(float(np.exp(nats / tokens))))
            for name, tokens, nats in zip(self._names, self._band_tokens, self._band_nats, strict=True)
            if tokens
        ]


def summarise(scores: SentenceScores, bootstrap_samples: int, seed: int) -> dict[str, float | int]:
    """The figures of metrics.json, each with the 95% percentile interval of a bootstrap over sentences.

    Sentences are drawn, not tokens, because the words of one sentence depend on each other (Efron and Tibshirani 1993,
    "An Introduction to the Bootstrap", chapters 8 and 13). Perplexities are exp(nats per token).

    Args:
        scores: of one model on one split.
        bootstrap_samples: resamplings of the sentences.
        seed: of the resampling; equal seeds draw equal sentences for every model.

    Returns:
        `perplexity`, `nats_per_token`, `accuracy_top1`, `accuracy_top5`, `unknown_share` and `perplexity_known`
        (over the targets that are not UNKNOWN_TOKEN), each also with `_low` and `_high`; `tokens` and `sentences`.

    Raises:
        InputError: there is no sentence, or a score is not a finite number.
    """
    if not len(scores):
        raise InputError(
            "the test split has no sentence to score; give it a larger share in params.yaml tokenize.splits"
        )
    columns_KS = np.stack([np.asarray(getattr(scores, field.name), np.float64) for field in fields(scores)])
    if not np.isfinite(columns_KS).all():
        raise InputError(
            "the model gives probabilities that are not numbers, so its training diverged; "
            "lower train.learning_rate in params.yaml and train again"
        )
    generator = np.random.default_rng(seed)
    sums_BK = np.empty((bootstrap_samples, len(columns_KS)))
    for sample in range(bootstrap_samples):
        drawn_S = np.bincount(generator.integers(0, len(scores), len(scores)), minlength=len(scores))
        # Sums instead of a matrix product: BLAS may add in another order when it has other threads.
        sums_BK[sample] = (columns_KS * drawn_S).sum(axis=1)
    measured = _figures(columns_KS.sum(axis=1)[None, :])
    resampled = _figures(sums_BK)
    result: dict[str, float | int] = {}
    for key, value in measured.items():
        low, high = np.percentile(resampled[key], [(100 - INTERVAL) / 2, (100 + INTERVAL) / 2])
        result |= {key: _rounded(value[0]), f"{key}_low": _rounded(low), f"{key}_high": _rounded(high)}
    return result | {"tokens": int(scores.tokens.sum()), "sentences": len(scores)}


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write metrics as JSON with sorted keys, so that equal figures are equal bytes."""
    write_text(path, json.dumps(metrics, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_bands(path: Path, bands: Mapping[str, list[Band]]) -> None:
    """Write bands.csv: `model,band,tokens,perplexity`, from the bands of each model by its name."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", *Band._fields])
        writer.writerows([model, *band] for model, rows in bands.items() for band in rows)


def write_sentences(path: Path, scores: SentenceScores) -> None:
    """Write the sums of each sentence as Parquet, a row a sentence in the order of the split, for paired tests."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(pa.table({field.name: getattr(scores, field.name) for field in fields(scores)}), temporary)


def _figures(sums_BK: np.ndarray) -> dict[str, np.ndarray]:
    """The figures `(samples,)` from sums `(samples, columns)`, the columns in the order of SentenceScores."""
    tokens, nats, top1, top5, unknown, nats_unknown = sums_BK.T
    with np.errstate(over="raise"):
        try:
            return {
                "perplexity": np.exp(nats / tokens),
                "nats_per_token": nats / tokens,
                "accuracy_top1": top1 / tokens,
                "accuracy_top5": top5 / tokens,
                "unknown_share": unknown / tokens,
                # Every sentence ends in SENTENCE_END, a known target: there is no division by zero.
                "perplexity_known": np.exp((nats - nats_unknown) / (tokens - unknown)),
            }
        except FloatingPointError:
            raise InputError(
                "the model's perplexity is too large for a number, so its training diverged; "
                "lower train.learning_rate in params.yaml and train again"
            ) from None


def _bands(vocabulary_size: int) -> tuple[list[str], np.ndarray]:
    """Names of the bands, and the band of every id `(vocabulary_size,)`."""
    words = vocabulary_size - 3
    limits = [*(limit for limit in BAND_LIMITS if limit < words), words]
    names = [f"{low + 1}-{high}" for low, high in zip([0, *limits], limits, strict=False)]
    rank = np.arange(vocabulary_size) - 1  # id 2 is the most frequent word
    band = np.searchsorted(limits, rank).clip(max=len(names) - 1)
    band[END_ID] = len(names)
    band[vocabulary_size - 1] = len(names) + 1
    return [*names, SENTENCE_END, UNKNOWN_TOKEN], band


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
