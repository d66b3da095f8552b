"""How well a model predicts: sums per sentence and per frequency band, and the figures made from them.

A model, network or n-grams, gives for every target of the test split the nats it spent, -ln P(target | words before),
and the target's rank, the number of words it found more probable. SENTENCE_END is a target, SENTENCE_START is not.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.bootstrap import bootstrap
from pipeline.evaluation.recipes import SEED_COUNT, SEED_NATS_SD, recipe_interval
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path, write_text
from pipeline.runtime.rows import write_rows
from pipeline.text.vocabulary import END_ID, SENTENCE_END, UNKNOWN_TOKEN

# Ranks by training frequency at which a band ends; the rest of the words is the last band.
BAND_LIMITS = (10, 100, 1000)
DIVERGED = "so its training diverged; lower train.learning_rate in params.yaml and train again"
DECIMALS = 6  # of what metrics.json holds: far below any interval, and short enough to read
# What is measured; metrics.json holds each KEY, with KEY_low and KEY_high where there is text enough for an interval.
MEASURES = ("perplexity", "nats_per_token", "accuracy_top1", "accuracy_top5", "unknown_share", "perplexity_known")
ENDS = tuple(f"{key}_{end}" for key in MEASURES for end in ("low", "high"))
# The perplexity over sentences that share no 8-gram with the training split, with ends likewise, and how much that is.
UNSEEN, UNSEEN_SENTENCES, UNSEEN_TOKENS = "perplexity_unseen", "sentences_unseen", "tokens_unseen"
TOKENS_IN, NATS_IN = "tokens ", "nats "  # before the name of a band: columns of sentences.parquet
NATS_WITH = "nats with "  # before the name of an adaptation: likewise
ADAPTED = "adapted"  # key of metrics.json: of each adaptation its figures, and what was chosen for it
# What was drawn for the intervals: documents and how many equal ones say as much, or of sentences that number alone.
TEST_DOCUMENTS, EFFECTIVE_DOCUMENTS, EFFECTIVE_SENTENCES = "documents", "effective_documents", "effective_sentences"
SEED_FIGURES = ("seed_perplexity_mean", "seed_perplexity_sd")  # over seeds, likewise
SEED_PERPLEXITY = "perplexity_seed_"  # and the seed; where there are several


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

    model: str
    band: str
    tokens: int
    perplexity: float


class ScoreSums:
    """Gathers scores of a number of `sentences` batch by batch, so that no array of all targets is ever held.

    C is `vocabulary_size`; ids 2..C-2 are words by falling training count, C-1 is UNKNOWN_TOKEN.
    """

    def __init__(self, sentences: int, vocabulary_size: int) -> None:
        self._unknown_id = vocabulary_size - 1
        self.band_names, self._band_of_id = _bands(vocabulary_size)
        self.band_tokens_SF = np.zeros((sentences, len(self.band_names)), np.int64)  # F frequency bands
        self.band_nats_SF = np.zeros((sentences, len(self.band_names)))
        self.sentences = SentenceScores(
            *(np.zeros(sentences, np.float64 if "nats" in field.name else np.int64) for field in fields(SentenceScores))
        )

    def add(self, sentence_N: np.ndarray, target_N: np.ndarray, nats_N: np.ndarray, rank_N: np.ndarray) -> None:
        """Add N targets, in any order: the sentence each is in, its id, its nats and its rank (0 is the best)."""
        nats_N = nats_N.astype(np.float64)
        unknown_N = target_N == self._unknown_id
        np.add.at(self.sentences.tokens, sentence_N, 1)
        np.add.at(self.sentences.nats, sentence_N, nats_N)
        np.add.at(self.sentences.top1, sentence_N, rank_N < 1)
        np.add.at(self.sentences.top5, sentence_N, rank_N < 5)
        np.add.at(self.sentences.unknown, sentence_N, unknown_N)
        np.add.at(self.sentences.nats_unknown, sentence_N[unknown_N], nats_N[unknown_N])
        band_N = self._band_of_id[target_N]
        np.add.at(self.band_tokens_SF, (sentence_N, band_N), 1)
        np.add.at(self.band_nats_SF, (sentence_N, band_N), nats_N)

    def bands(self, model: str) -> list[Band]:
        """The perplexity of `model` by training frequency of the target; a band without a target is left out."""
        return [
            Band(model, name, int(tokens), round(float(np.exp(nats / tokens)), DECIMALS))
            for name, tokens, nats in zip(
                self.band_names, self.band_tokens_SF.sum(axis=0), self.band_nats_SF.sum(axis=0), strict=True
            )
            if tokens
        ]


def summarise(
    scores: SentenceScores, document: np.ndarray | None, seen: np.ndarray, bootstrap_samples: int, seed: int
) -> dict[str, float | int]:
    """`MEASURES`, their `ENDS`, the 95% interval of a bootstrap over documents, and how much there was of each.

    Perplexities are exp(nats per token), `perplexity_known` over the targets that are not UNKNOWN_TOKEN. Documents are
    drawn `bootstrap_samples` times; equal seeds draw equal documents for every model. `document` (sentences,) is the
    index of each sentence's; None: sentences are drawn. Where these are too few there are no ends.

    `seen` (sentences,) says which share an 8-gram with the training split; `UNSEEN` is the perplexity over the others,
    its interval over their documents, and is absent where there are no others.

    Raises:
        InputError: there is no sentence, or a score is not a finite number.
    """
    if not len(scores):
        raise InputError("the test split has no sentences; give it a larger share in params.yaml tokenize.splits")
    columns_KS = np.stack([np.asarray(getattr(scores, field.name), np.float64) for field in fields(scores)])
    if not np.isfinite(columns_KS).all():
        raise InputError(f"the model gives probabilities that are not numbers, {DIVERGED}")
    drawn = bootstrap(columns_KS, scores.tokens, document, bootstrap_samples, seed)
    measured, resampled = _measures(columns_KS.sum(axis=1)[None, :]), _measures(drawn.sums_BK)
    metrics: dict[str, float | int] = {"tokens": int(scores.tokens.sum()), "sentences": len(scores)}
    effective = round(drawn.effective, DECIMALS)
    if drawn.documents is None:
        metrics[EFFECTIVE_SENTENCES] = effective
    else:
        metrics |= {TEST_DOCUMENTS: drawn.documents, EFFECTIVE_DOCUMENTS: effective}
    for key in MEASURES:
        metrics[key] = round(float(measured[key][0]), DECIMALS)
        ends = drawn.interval(resampled[key])
        if ends is not None:
            metrics[f"{key}_low"], metrics[f"{key}_high"] = (round(end, DECIMALS) for end in ends)
    return metrics | _unseen(scores, document, np.flatnonzero(~seen), bootstrap_samples, seed)


def _unseen(
    scores: SentenceScores, document: np.ndarray | None, unseen: np.ndarray, bootstrap_samples: int, seed: int
) -> dict[str, float | int]:
    nats, tokens = scores.nats[unseen], scores.tokens[unseen]
    metrics: dict[str, float | int] = {UNSEEN_SENTENCES: len(unseen), UNSEEN_TOKENS: int(tokens.sum())}
    if not len(unseen):
        return metrics
    if document is not None:
        document = np.unique(document[unseen], return_inverse=True)[1]
    drawn = bootstrap(np.stack([nats, tokens]), tokens, document, bootstrap_samples, seed)
    with _too_large_named():
        metrics[UNSEEN] = round(float(np.exp(nats.sum() / tokens.sum())), DECIMALS)
        ends = drawn.interval(np.exp(drawn.sums_BK[:, 0] / drawn.sums_BK[:, 1]))
    if ends is not None:
        metrics[f"{UNSEEN}_low"], metrics[f"{UNSEEN}_high"] = (round(end, DECIMALS) for end in ends)
    return metrics


def summarise_seeds(
    of_seeds: Mapping[int, SentenceScores], document: np.ndarray | None, bootstrap_samples: int, seed: int
) -> dict[str, float | int]:
    """What metrics.json holds of a recipe besides, where it has several seeds.

    That is `seeds`, their number; `perplexity_seed_N` of each; the mean and the sample standard deviation over seeds of
    the perplexity and of the nats a token; and the 95% interval of the mean, over seeds and documents, where there are
    enough of both.
    `of_seeds` has the scores of the same sentences, by seed; all else is as in `summarise`.
    """
    nats_KS = np.stack([scores.nats for scores in of_seeds.values()])
    tokens = next(iter(of_seeds.values())).tokens
    nats_K = nats_KS.sum(axis=1) / tokens.sum()
    perplexity_K = np.exp(nats_K)
    found: dict[str, float | int] = {
        "seed_nats_mean": nats_K.mean(),
        SEED_NATS_SD: nats_K.std(ddof=1),
        **dict(zip(SEED_FIGURES, (perplexity_K.mean(), perplexity_K.std(ddof=1)), strict=True)),
    }
    ends = recipe_interval(nats_KS, tokens, document, bootstrap_samples, seed)
    if ends is not None:
        found["seed_perplexity_mean_low"], found["seed_perplexity_mean_high"] = map(math.exp, ends)
    found |= {f"{SEED_PERPLEXITY}{number}": value for number, value in zip(of_seeds, perplexity_K, strict=True)}
    return {SEED_COUNT: len(of_seeds)} | {key: round(float(value), DECIMALS) for key, value in found.items()}


def write_seed_figures(path: Path, of_seeds: Mapping[int, SentenceScores]) -> None:
    """Write seeds.csv: `seed,perplexity,nats_per_token`, from the scores by seed."""
    nats = {seed: float(scores.nats.sum() / scores.tokens.sum()) for seed, scores in of_seeds.items()}
    rows = ((seed, round(math.exp(value), DECIMALS), round(value, DECIMALS)) for seed, value in nats.items())
    write_rows(path, ("seed", "perplexity", "nats_per_token"), rows)


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write metrics as JSON with sorted keys, so that equal figures are equal bytes."""
    write_text(path, json.dumps(metrics, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_bands(path: Path, bands: Iterable[Band]) -> None:
    """Write bands.csv: `model,band,tokens,perplexity`."""
    write_rows(path, Band._fields, bands)


def write_sentences(
    path: Path, sums: ScoreSums, document: np.ndarray | None, adapted: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write the sums of each sentence as Parquet, one row per sentence in the order of the split, for paired tests.

    Columns are the fields of `SentenceScores`, of each frequency band `tokens BAND` and `nats BAND`, and of each
    adaptation `nats with ADAPTATION`, as `adapted` has them by name. `document` is the index of the document that a
    sentence is in; a corpus without documents has no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {field.name: getattr(sums.sentences, field.name) for field in fields(SentenceScores)}
    for number, name in enumerate(sums.band_names):
        columns[TOKENS_IN + name], columns[NATS_IN + name] = (
            sums.band_tokens_SF[:, number],
            sums.band_nats_SF[:, number],
        )
    columns |= {NATS_WITH + name: nats for name, nats in (adapted or {}).items()}
    if document is not None:
        columns["document"] = document
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _measures(sums_BK: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES`, `(samples,)` each, from sums `(samples, columns)`, the columns in the order of SentenceScores."""
    tokens, nats, top1, top5, unknown, nats_unknown = sums_BK.T
    with _too_large_named():
        return {
            "perplexity": np.exp(nats / tokens),
            "nats_per_token": nats / tokens,
            "accuracy_top1": top1 / tokens,
            "accuracy_top5": top5 / tokens,
            "unknown_share": unknown / tokens,
            # Every sentence ends in SENTENCE_END, a known target: there is no division by zero.
            "perplexity_known": np.exp((nats - nats_unknown) / (tokens - unknown)),
        }


@contextmanager
def _too_large_named() -> Iterator[None]:
    with np.errstate(over="raise"):
        try:
            yield
        except FloatingPointError:
            raise InputError(f"the model's perplexity is too large for a number, {DIVERGED}") from None


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
