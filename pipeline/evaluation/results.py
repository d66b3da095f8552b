"""What the stages `evaluate` and `baselines` left: read, checked, and all models side by side as a table."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_type_hints

import numpy as np

from pipeline.evaluation.bootstrap import CONFIDENCE, drawn_in_words, for_verdicts, too_few
from pipeline.evaluation.matrix import Matrix
from pipeline.evaluation.recipes import SEED_COUNT, paired_recipes
from pipeline.evaluation.scores import (
    ADAPTED,
    EFFECTIVE_DOCUMENTS,
    EFFECTIVE_SENTENCES,
    ENDS,
    MEASURES,
    NATS_IN,
    SEED_PERPLEXITY,
    TEST_DOCUMENTS,
    TOKENS_IN,
    UNSEEN,
    UNSEEN_SENTENCES,
    UNSEEN_TOKENS,
)
from pipeline.runtime.errors import InputError, is_of_the_machine
from pipeline.runtime.hashes import sha256
from pipeline.runtime.paths import SEEDS_FOLDER, WEIGHTS_FILE, seed_folders
from pipeline.runtime.rows import read_rows
from pipeline.training.history import HISTORY_FILE, best_cell, best_epoch, read_history, remark

BASELINES = {"unigram": "unigram", "trigram": "trigram", "fivegram": "5-gram"}  # key in metrics.json: name in text

SENTENCES_FILE = "sentences.parquet"  # in a model's folder of data/evaluation
BY_SENTENCE = " (by sentence)"  # behind an interval that stands beside others, which drew documents
LARGEST_NATS = 700.0  # a token: beyond, perplexity is too large for a number, which `evaluate` refuses to write

Record = TypeVar("Record")


@dataclass(frozen=True)
class Row:
    """One model's line; what only networks have is None for the baselines."""

    model: str  # the name shown
    metrics: dict[str, float]  # the keys of metrics.json
    valid_perplexity: float | None = None  # of the epoch kept
    epochs: int | None = None  # trained, also past the one kept
    best: bool = False  # lowest validation perplexity
    seconds: float | None = None  # of training; None where nobody measured it
    remark: str | None = None  # what says that more training would have helped


def comparison_table(
    evaluation_folder: Path, models_folder: Path, names: Sequence[str], timings_folder: Path | None = None
) -> list[Row]:
    """The baselines and then the networks, in the order of `names`.

    `evaluation_folder` holds NAME/metrics.json for every name, of which there is one at least, and for the baselines,
    `models_folder` NAME/history.csv. `timings_folder` may hold NAME.json of networks trained here: the seconds,
    and which weights came of them.

    Raises:
        InputError: a file is missing or damaged.
    """
    return [*baseline_rows(evaluation_folder), *network_rows(evaluation_folder, models_folder, names, timings_folder)]


def baseline_rows(evaluation_folder: Path) -> list[Row]:
    """The rows of `comparison_table` for the baselines."""
    path = evaluation_folder / "baselines" / "metrics.json"
    baselines = read_metrics(path)
    return [Row(shown, _complete(baselines.get(name), path)) for name, shown in BASELINES.items()]


def network_rows(
    evaluation_folder: Path, models_folder: Path, names: Sequence[str], timings_folder: Path | None = None
) -> list[Row]:
    """The rows of `comparison_table` for the networks."""
    rows, best = [], best_cell(models_folder, names)
    for name in names:
        history = read_history(models_folder / name / HISTORY_FILE)
        path = evaluation_folder / name / "metrics.json"
        valid_perplexity = best_epoch(history).valid_perplexity
        weights = models_folder / name / WEIGHTS_FILE
        seconds = _seconds(timings_folder / f"{name}.json", weights) if timings_folder else None
        metrics = _complete(read_metrics(path), path)
        rows.append(Row(name, metrics, valid_perplexity, len(history), name == best, seconds, remark(history)))
    return rows


def table_cells(rows: Sequence[Row], with_times: bool = False) -> list[list[str]]:
    """The rows as text, the header first, which says what intervals draw; a dash where a model has no such figure."""
    columns = [_columns(row) for row in rows]
    names = [name for name in columns[0] if with_times or name != "training"]
    about = about_intervals(rows[0].metrics)
    for cells, row in zip(columns, rows, strict=True):
        if of_sentences(row.metrics) and about != about_intervals(row.metrics):
            cells["interval"] += BY_SENTENCE
    header = [about if name == "interval" else name for name in names]
    return [header, *([cells[name] for name in names] for cells in columns)]


def about_intervals(metrics: Mapping[str, float]) -> str:
    """What the intervals of metrics.json draw, or why there are none; earlier versions drew sentences."""
    documents = int(metrics[TEST_DOCUMENTS]) if TEST_DOCUMENTS in metrics else None
    effective = metrics.get(EFFECTIVE_DOCUMENTS, metrics.get(EFFECTIVE_SENTENCES))
    if effective is None:
        return "95% interval over sentences"
    has_intervals = ENDS[0] in metrics
    return (
        f"95% interval over {drawn_in_words(documents, effective)}" if has_intervals else too_few(documents, effective)
    )


def of_sentences(metrics: Mapping[str, float]) -> bool:
    """Whether an earlier version made the interval of metrics.json: it drew sentences even of a corpus of documents."""
    return ENDS[0] in metrics and not {EFFECTIVE_DOCUMENTS, EFFECTIVE_SENTENCES} & metrics.keys()


def about_unseen(metrics: Mapping[str, float]) -> str:
    """What the column of unseen 8-grams is about, or why it is empty."""
    if UNSEEN in metrics:
        return (
            f"{metrics[UNSEEN_SENTENCES]:,} of these sentences, {metrics[UNSEEN_TOKENS]:,} tokens, share no 8-gram "
            "with the training split; the perplexity over these alone says more about text that is really new."
        )
    if UNSEEN_SENTENCES in metrics:
        return (
            "Every test sentence shares an 8-gram with the training split, so there is no perplexity over the others."
        )
    return "Which sentences share an 8-gram with the training split was not looked at: `dvc repro` does."


def counting_is_better(rows: Sequence[Row], matrix: Matrix) -> str | None:
    """The sentence that says so where a model that counts has a lower test perplexity than the best network."""
    counting = min(rows[: len(BASELINES)], key=lambda row: row.metrics["perplexity"])
    best = next(row for row in rows if row.best)
    if best.metrics["perplexity"] <= counting.metrics["perplexity"]:
        return None
    is_told = matrix.beats(counting.model, best.model)
    return (
        f"**Counting words {'is' if is_told else 'did'} better on this corpus** than the best network: the "
        f"{counting.model} has a test perplexity of {counting.metrics['perplexity']:.1f}, {best.model} of "
        f"{best.metrics['perplexity']:.1f}{'' if is_told else '; by a paired test they cannot be told apart'}."
    )


def seed_cells(rows: Sequence[Row]) -> list[list[str]]:
    """What the seeds of each network gave that has several, as text, the header first; nothing where none has."""
    recipes = [row for row in rows if SEED_COUNT in row.metrics]
    header = ["model", "seeds", "mean test perplexity", "sd over seeds", "95% interval over seeds and documents"]
    lines = []
    for row in recipes:
        metrics, mean = row.metrics, "seed_perplexity_mean"
        ends = [metrics.get(f"{mean}_{end}") for end in ("low", "high")]
        interval = "-" if None in ends else f"{ends[0]:.1f} to {ends[1]:.1f}"
        each = {key.removeprefix(SEED_PERPLEXITY): value for key, value in metrics.items() if SEED_PERPLEXITY in key}
        shown = ", ".join(f"{each[seed]:.2f}" for seed in sorted(each, key=int))
        figures = f"{metrics[SEED_COUNT]:d}", f"{metrics[mean]:.2f}", f"{metrics['seed_perplexity_sd']:.2f}"
        lines.append([row.model, *figures, interval, shown])
    return [[*header, "each seed"], *lines] if lines else []


def about_seeds(rows: Sequence[Row]) -> str:
    """What the figures of a table say of seeds."""
    single = [row.model for row in rows if row.valid_perplexity is not None and SEED_COUNT not in row.metrics]
    if len(single) == len(rows) - len(BASELINES):
        return (
            "Each network is one seed: what another would give is in no interval here; `seeds: 5` in an entry of "
            "`cells` measures it."
        )
    rest = f"Of {' and '.join(single)} there is one seed. " if single else ""
    return f"These are the first seed's models, which are the ones in use. {rest}Over all seeds:"


def recipe_tests(evaluation_folder: Path, rows: Sequence[Row], resamples: int, seed: int) -> list[str]:
    """A sentence for each two networks of several seeds: whether one recipe is better than the other.

    The confidence is that of all sentences together (Bonferroni).

    Raises:
        InputError: a file of scores is missing or damaged, or two are not of the same sentences.
    """
    pairs = list(itertools.combinations([row.model for row in rows if SEED_COUNT in row.metrics], 2))
    confidence = math.ceil(1e4 * (1 - (1 - CONFIDENCE) / max(len(pairs), 1))) / 1e4
    said = []
    for a, b in pairs:
        (nats_a, scores), (nats_b, others) = (_of_all_seeds(evaluation_folder / name) for name in (a, b))
        if not scores.same_sentences(others):
            raise damaged(evaluation_folder / b / SENTENCES_FILE, f"other sentences than that of {a}")
        of_test = for_verdicts(resamples, scores.tokens, scores.document)
        test = paired_recipes(nats_a, nats_b, scores.tokens, scores.document, of_test, seed, confidence)
        verdicts = {"A": f"{a} is better than {b}", "B": f"{b} is better than {a}"}
        equal = (
            f"{a} and {b} cannot be told apart"
            if test.ratio_low is not None
            else f"whether {a} or {b} is better cannot be told"
        )
        verdict = verdicts.get(str(test.better), equal)
        said.append(f"{verdict}: perplexity {b} / {a} {test.ratio:.4f}, {test.ratio_interval}.")
    return said


def _of_all_seeds(folder: Path) -> "tuple[np.ndarray, SavedScores]":
    """The nats of all seeds of a cell (seeds, sentences), and the scores of the first."""
    scores = {path / SENTENCES_FILE: scores_of(path / SENTENCES_FILE) for path in seed_folders(folder)}
    first = scores[folder / SENTENCES_FILE]
    for path, other in scores.items():
        if not first.same_sentences(other):
            raise damaged(path, "other sentences than that of the first seed")
    return np.stack([each.nats for each in scores.values()]), first


def read_scores(evaluation_folder: Path, names: Sequence[str]) -> dict[str, "SavedScores"]:
    """What each model spent on each test sentence: the baselines, by the names shown, and then the networks.

    Raises:
        InputError: a file of scores is missing or damaged, or two are not of the same sentences.
    """
    sentences = evaluation_folder / "baselines" / "sentences"
    paths = {shown: sentences / f"{key}.parquet" for key, shown in BASELINES.items()}
    paths |= {name: evaluation_folder / name / SENTENCES_FILE for name in names}
    scores = {model: scores_of(path) for model, path in paths.items()}
    first = next(iter(scores))
    for model, found in scores.items():
        if not found.same_sentences(scores[first]):
            raise damaged(paths[model], f"other sentences than {paths[first]}")
    return scores


def read_metrics(path: Path) -> dict:
    """What a metrics.json holds.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    with named(path, "no metrics"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise damaged(path, "no metrics")
    return content


def read_table(path: Path, kind: type[Record]) -> list[Record]:
    """The rows of a CSV file that the stage `evaluate` or `baselines` left; `kind` as in `read_rows`.

    Raises:
        InputError: the file is missing or is not such a table.
    """
    with named(path, f"no table of {', '.join(get_type_hints(kind))}"):
        return read_rows(path, kind)


def read_result(path: Path) -> str:
    """The text of a file that the stage `evaluate` or `baselines` left.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    with named(path, "no UTF-8"):
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class SavedScores:
    """What paired tests need of a file that `write_sentences` wrote, `(sentences,)` each."""

    nats: np.ndarray
    tokens: np.ndarray
    document: np.ndarray | None
    bands: dict[str, tuple[np.ndarray, np.ndarray]]  # of each frequency band tokens and nats

    def same_sentences(self, other: "SavedScores") -> bool:
        """Whether the two are sums over the same targets, as far as that shows."""
        if (self.document is None) != (other.document is None) or list(self.bands) != list(other.bands):
            return False
        found = ((one.tokens, one.document, *(tokens for tokens, _ in one.bands.values())) for one in (self, other))
        return all(np.array_equal(*both) for both in zip(*found, strict=True))


def scores_of(path: Path) -> SavedScores:
    """What a model spent on each test sentence, as `write_sentences` wrote it.

    Raises:
        InputError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with named(path, "no scores of sentences"):
        try:
            table = pq.read_table(path)
            nats, tokens = (table[name].to_numpy() for name in ("nats", "tokens"))
            document = table["document"].to_numpy() if "document" in table.column_names else None
            names = [name.removeprefix(TOKENS_IN) for name in table.column_names if name.startswith(TOKENS_IN)]
            bands = {name: (table[TOKENS_IN + name].to_numpy(), table[NATS_IN + name].to_numpy()) for name in names}
        except (pa.ArrowException, KeyError, OSError) as error:
            if isinstance(error, FileNotFoundError) or is_of_the_machine(error):
                raise
            raise ValueError(str(error)) from None
        drawn = tokens if document is None else document
        whole = tokens.dtype.kind == drawn.dtype.kind == "i" and nats.dtype == np.float64 and len(tokens) > 0
        if not whole or not np.isfinite(nats).all() or nats.min() < 0 or tokens.min() < 1:
            raise ValueError
        if nats.sum() / tokens.sum() > LARGEST_NATS:
            raise ValueError
        if document is not None and not 0 <= document.min() <= document.max() < len(document):
            raise ValueError
        _check_bands(bands, tokens)
    return SavedScores(nats, tokens, document, bands)


def _check_bands(bands: Mapping[str, tuple[np.ndarray, np.ndarray]], tokens: np.ndarray) -> None:
    """Raise ValueError where bands are missing or not whole, or their tokens are not those of the sentences."""
    total = np.zeros(len(tokens), np.int64)
    for in_band, nats in bands.values():
        if in_band.dtype.kind != "i" or nats.dtype != np.float64 or in_band.min() < 0:
            raise ValueError
        if not np.isfinite(nats).all() or nats.min() < 0 or nats.sum() > LARGEST_NATS * max(in_band.sum(), 1):
            raise ValueError
        total += in_band
    if not np.array_equal(total, tokens):
        raise ValueError


def damaged(path: Path, lack: str) -> InputError:
    """The error that says what a file of an evaluation does not hold, and how to make it again."""
    return InputError(f"{path} holds {lack}; delete it and run `dvc repro {_stage(path)}`")


@contextmanager
def named(path: Path, lack: str) -> Iterator[None]:
    """Name the file, and the stage that makes it, where the block cannot read it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make it with `dvc repro {_stage(path)}`") from None
    except (ValueError, RecursionError):
        raise damaged(path, lack) from None


def _columns(row: Row) -> dict[str, str]:
    metrics = row.metrics
    return {
        "model": f"{row.model} (best on validation)" if row.best else row.model,
        "test perplexity": f"{metrics['perplexity']:.1f}",
        "interval": "-"
        if ENDS[0] not in metrics
        else f"{metrics['perplexity_low']:.1f} to {metrics['perplexity_high']:.1f}",
        "unseen 8-grams only": _or_dash(metrics.get(UNSEEN), ".1f"),
        "known words only": f"{metrics['perplexity_known']:.1f}",
        "top-1": f"{metrics['accuracy_top1']:.1%}",
        "top-5": f"{metrics['accuracy_top5']:.1%}",
        "validation perplexity": _or_dash(row.valid_perplexity, ".1f"),
        "epochs": _or_dash(row.epochs, "d"),
        "parameters": _or_dash(metrics.get("parameters"), ",d"),
        "training": _or_dash(row.seconds, ",.0f", " s"),
    }


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _complete(metrics: object, path: Path) -> dict[str, float]:
    if not isinstance(metrics, dict):
        raise damaged(path, "not the metrics of every model")
    ends = ENDS if ENDS[0] in metrics else ()
    # Of a version before it, or without a sentence that shares no 8-gram with the training split.
    unseen = (UNSEEN, UNSEEN_SENTENCES, UNSEEN_TOKENS) if UNSEEN in metrics else ()
    for key in (*MEASURES, "tokens", "sentences", *ends, *unseen):
        value = metrics.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise damaged(path, f"no number {key}")
    if not isinstance(metrics.get("parameters", 0), int):
        raise damaged(path, "no number parameters")
    for adapted in dict(metrics.get(ADAPTED, {})).values():
        _complete(adapted, path)
    return metrics


def _stage(path: Path) -> str:
    is_baseline = "baselines" in (path.parent.name, path.parent.parent.name)
    folder = path.parents[2] if path.parent.parent.name == SEEDS_FOLDER else path.parent
    return "baselines" if is_baseline else f"evaluate@{folder.name}"


def _seconds(path: Path, weights: Path) -> float | None:
    """Training times are optional: none to show without the file, with a broken one, or with that of other weights."""
    try:
        timing = json.loads(path.read_text(encoding="utf-8"))
        return float(timing["seconds"]) if timing[WEIGHTS_FILE] == sha256(weights) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
