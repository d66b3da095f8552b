"""index.html: the report as a page to look at, from the files of the stages; page_script.py shows what is here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation import results
from pipeline.evaluation.adapted_rows import adapted_rows, chosen_in_words
from pipeline.evaluation.bands import RelativeBand, in_band
from pipeline.evaluation.figures import COLOURS, GREY, SURPRISE
from pipeline.evaluation.matrix import Matrix
from pipeline.evaluation.page_frame import page
from pipeline.evaluation.page_inputs import Compared, Inside, inside_of, plain_rnns, spelled_of, words_of
from pipeline.evaluation.words import (
    NOT_LOOKED,
    Words,
)
from pipeline.runtime.files import write_text
from pipeline.runtime.hashes import sha256
from pipeline.runtime.paths import CONFIG_FILE, VOCABULARY_FILE
from pipeline.text.vocabulary import SENTENCE_END, Vocabulary
from pipeline.training.history import EpochRecord, best_epoch

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
POSITIONS, LENGTHS = (1, 2, 4, 8, 16, 32), (5, 10, 20, 40)  # where bins end
MOST_SHOWN = 12_000  # of sentences, times models: half a megabyte
# Of the forty sentences: how many are taken for each reason.
DRAWN, TYPICAL, EASIEST, HARDEST = "drawn evenly", "typical", "easiest", "hardest"
REASONS = {TYPICAL: 8, EASIEST: 6, HARDEST: 6, DRAWN: 4}
DIFFERENT = 16  # in all, where one model is much better than another
COLOURED = (
    "coloured by how surprised models were: by the bits, minus log2 of the probability, that it took them. Words that "
    "the vocabulary does not have are in italics: models predict only that one comes."
)
COMMANDS = (
    "dvc repro     # all that is out of date, this page last",
    "rnnlm verify  # is every byte as dvc.lock says?",
    "rnnlm table   # the figures in a terminal",
    "rnnlm score FILE --html own.html  # a text of your own, word by word",
)


def write_page(path: Path, compared: Compared, tokens: Path, temperature: float) -> None:
    """Write the page: the same bytes for the same files.

    Args:
        path: where it goes.
        compared: what the report compared.
        tokens: the file of tokens, which has the words that the vocabulary does not.
        temperature: that `evaluate` drew samples with.

    Raises:
        InputError: a file of `evaluate` or `baselines` is missing or damaged.
    """
    folder, networks = compared.evaluation_folder, compared.networks
    vocabulary = Vocabulary.load(compared.models_folder / networks[0] / VOCABULARY_FILE)
    words = words_of(compared, len(vocabulary))
    inside = inside_of(folder, networks, len(vocabulary))
    configs = {name: results.read_metrics(compared.models_folder / name / CONFIG_FILE) for name in networks}
    joined = bool((configs[networks[0]].get("text") or {}).get("by_character"))
    drawn = list(inside[networks[0]].units)
    by_rank = sorted(networks, key=lambda name: compared.matrix.perplexities[name])
    others = [compared.reference, *by_rank[1:][-1:]]  # what counts, and the worst network
    chosen = choose(words, drawn, [(by_rank[0], other) for other in others])
    spelled = spelled_of(tokens, {sentence for sentence, _ in chosen} | set(drawn), words[compared.reference])
    about = f"{len(chosen)} sentences of the test split, each word {COLOURED}"
    found = results.counting_is_better(compared.rows, compared.matrix)
    first, *_ = compared.matrix.sentences() or [compared.matrix.about()]
    data = {
        "intervals": " ".join(
            [results.about_intervals(compared.rows[0].metrics).capitalize() + ".", *_adapted(compared)]
        ),
        "models": list(_models(compared.rows)),
        "curves": list(_curves(compared.histories, sum(vocabulary.counts))),
        "surprise": SURPRISE["limits"],
        "sentences": sentence_view(words, chosen, spelled, dict.fromkeys(words, vocabulary), joined, about),
        "where": _where(words, compared),
        "gradient": _gradient(compared, inside),
        "units": {
            "list": [{"words": spelled[sentence]} for sentence in drawn],
            "cells": [
                {"model": name, "numbers": told.unit_numbers, "values": [told.units[one] for one in drawn]}
                for name, told in inside.items()
            ],
        },
        "neighbours": _neighbours(inside, vocabulary),
        "samples": _samples(compared.samples, inside, temperature),
        "foot": {
            "commands": COMMANDS,
            "hashes": {f"{tokens.parent.name}/{tokens.name}, sha256": sha256(tokens)} | dict(_hashes(configs)),
        },
    }
    if compared.matrix.pairs:
        data["pairs"] = {"about": compared.matrix.about(), "rows": list(_pairs(compared.matrix))}
    if not any(compared.samples.values()):
        del data["samples"]
    if not drawn:
        del data["units"]
    verdict = [*([found.replace("**", "")] if found else []), first, compared.matrix.about()]
    write_text(path, page("Language models compared", list(dict.fromkeys(verdict)), data, SURPRISE))


def styled(names: Iterable[str], networks: Sequence[str]) -> Iterable[dict[str, str]]:
    """A colour and a shape for each model, of the figures of the report; what only counts is grey."""
    counting = 0
    for name in names:
        if name in networks:
            place = networks.index(name)
            yield {"name": name, "colour": COLOURS[place % len(COLOURS)], "shape": SYMBOLS[place % len(SYMBOLS)]}
        else:
            yield {"name": name, "colour": GREY, "shape": SYMBOLS[-1 - counting]}
            counting += 1


def sentence_view(
    words: Mapping[str, Words],
    chosen: Sequence[tuple[int, str]],
    spelled: Mapping[int, Sequence[str]],
    vocabularies: Mapping[str, Vocabulary],
    joined: bool,
    about: str,
) -> dict[str, Any]:
    """What the page shows of sentences, by several models that read the same tokens.

    Args:
        words: of each model.
        chosen: sentences, and why each is there.
        spelled: the words of each sentence.
        vocabularies: of each model.
        joined: words stand without spaces between them.
        about: what stands above.
    """
    place: dict[str, int] = {}  # in the page's own list of words, of every one that is shown
    list_of_all = []
    for sentence, kind in chosen:
        entry: dict[str, Any] = {"kind": kind, "words": list(spelled[sentence]), "unknown": []}
        for key in ("nats", "likeliest", "likeliest_nats", "targets"):
            entry[key] = []
        for name, found in words.items():
            rows, vocabulary = found.rows(sentence), vocabularies[name]
            ids = found.target[rows]
            entry["unknown"] = sorted({*entry["unknown"], *np.flatnonzero(ids == vocabulary.unknown_id).tolist()})
            entry["nats"].append(_short(found.nats[rows]))
            best = [[vocabulary.tokens[one] for one in line if one != NOT_LOOKED] for line in found.likeliest[rows]]
            entry["likeliest"].append([[place.setdefault(word, len(place)) for word in line] for line in best])
            entry["likeliest_nats"].append([_short(line) for line in found.likeliest_nats[rows]])
            entry["targets"].append([place.get(vocabulary.tokens[one], -1) for one in ids.tolist()])
        list_of_all.append(entry)
    return {
        "about": about,
        "list": list_of_all,
        "models": list(words),
        "words": ["(end of the sentence)" if word == SENTENCE_END else word for word in place],
        "joined": joined,
    }


def _short(values: np.ndarray) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


def _adapted(compared: Compared) -> list[str]:
    """A sentence for each adapted model, which has a row in the table of report.md."""
    perplexities = [one.metrics["perplexity"] for row in compared.rows for one in adapted_rows(row)]
    told = zip(chosen_in_words(compared.rows), perplexities, strict=True)
    return [f"Adapted to the text: {line}; test perplexity {perplexity:.1f}." for line, perplexity in told]


def _models(rows: Sequence[results.Row]) -> Iterable[dict[str, Any]]:
    networks = [row.model for row in rows if row.valid_perplexity is not None]
    for row, style in zip(rows, styled([row.model for row in rows], networks), strict=True):
        metrics = row.metrics
        seeds = [value for key, value in metrics.items() if key.startswith(results.SEED_PERPLEXITY)]
        yield style | {
            "perplexity": metrics["perplexity"],
            "low": metrics.get("perplexity_low"),
            "high": metrics.get("perplexity_high"),
            "seeds": sorted(seeds),
            "mean": metrics.get("seed_perplexity_mean"),
            "sd": metrics.get("seed_perplexity_sd"),
            "parameters": metrics.get("parameters"),
            "top1": metrics["accuracy_top1"],
            "top5": metrics["accuracy_top5"],
            "valid": row.valid_perplexity,
        }


def _pairs(matrix: Matrix) -> Iterable[dict[str, Any]]:
    for pair in matrix.pairs:
        numbers = {"ratio": pair.ratio, "low": pair.ratio_low, "high": pair.ratio_high}
        numbers |= {"p": pair.p, "p_holm": pair.p_holm}
        rounded = {key: float(f"{value:.4g}") for key, value in numbers.items()}
        yield {"model": pair.model, "other": pair.other, **rounded, "better": pair.better}


def _curves(histories: Mapping[str, Sequence[EpochRecord]], tokens: int) -> Iterable[dict[str, Any]]:
    for name, history in histories.items():
        kept = best_epoch(history)
        for record in history:
            figures = {"epoch": record.epoch, "tokens": record.epoch * tokens}
            yield {"model": name, **figures, "perplexity": round(record.valid_perplexity, 4), "kept": record is kept}


def choose(words: Mapping[str, Words], drawn: Sequence[int], pairs: Sequence[tuple[str, str]]) -> list[tuple[int, str]]:
    """The sentences that are shown, by reason, each once; fewer where many models would make the page too large.

    Args:
        words: of each model, on the same sentences.
        drawn: sentences that are there whatever the models say of them.
        pairs: models, each of which is shown where it is much better than the other.
    """
    first = next(iter(words.values()))
    shown = np.unique(first.sentence[first.likeliest[:, 0] != NOT_LOOKED])
    if not len(shown):
        return []
    place_N = np.searchsorted(shown, first.sentence).clip(max=len(shown) - 1)
    is_shown_N = shown[place_N] == first.sentence
    lengths_S = np.bincount(place_N[is_shown_N], minlength=len(shown))
    mean = {
        name: np.bincount(place_N[is_shown_N], found.nats[is_shown_N], len(shown)) / lengths_S
        for name, found in words.items()
    }
    all_S = np.mean(list(mean.values()), axis=0)
    orders: dict[str, np.ndarray] = {
        TYPICAL: np.argsort(np.abs(all_S - np.median(all_S)), kind="stable"),
        EASIEST: np.argsort(all_S, kind="stable"),
        HARDEST: np.argsort(-all_S, kind="stable"),
        DRAWN: np.searchsorted(shown, drawn),
    }
    quota = dict(REASONS)
    for one, other in pairs:
        for better, worse in ((one, other), (other, one)):
            reason = f"{better} much better than {worse}"
            orders[reason] = np.argsort(mean[better] - mean[worse], kind="stable")
            quota[reason] = DIFFERENT // (2 * len(pairs))
    return _taken(orders, quota, shown, lengths_S * len(words))


def _taken(
    orders: Mapping[str, np.ndarray], quota: Mapping[str, int], shown: np.ndarray, costs_S: np.ndarray
) -> list[tuple[int, str]]:
    """One sentence for each reason in turn, the next in its order, until all have enough or the page has."""
    queues = {reason: iter(order.tolist()) for reason, order in orders.items()}
    taken: dict[int, str] = {}
    counts: Counter[str] = Counter()
    left = MOST_SHOWN
    for turn in range(max(quota.values())):
        for reason, queue in queues.items():
            found = next((place for place in queue if place not in taken), None) if turn < quota[reason] else None
            if found is not None and costs_S[found] <= left:
                left -= int(costs_S[found])
                taken[found] = reason
                counts[reason] += 1
    return [(int(shown[place]), reason) for reason in orders for place, why in taken.items() if why == reason]


def _where(words: Mapping[str, Words], compared: Compared) -> dict[str, Any]:
    """Against the model that counts: by the word's frequency, and by what is known of each word looked at."""
    first, reference = words[compared.reference], compared.reference
    assert first.seen is not None  # as _words has seen
    sentences, index_N = np.unique(first.sentence, return_inverse=True)
    lengths_S = np.bincount(index_N)
    begins_S = np.cumsum(lengths_S) - lengths_S
    position_N = np.arange(len(index_N)) - begins_S[index_N] + 1
    document = compared.scores[reference].document
    document_S = None if document is None else document[sentences]
    most = int(first.seen.max())
    contexts = ["no word", "1 word", *(f"{count} words" for count in range(2, most))]
    kinds = [
        ("by the place in the sentence", *_bins(position_N, POSITIONS, "word")),
        ("by the length of the sentence", *_bins(lengths_S[index_N], LENGTHS, "")),
        ("by how many words before it training has with it", first.seen - 1, contexts[:most]),
    ]
    kept = [reference, *compared.networks]
    frequency = [row for rows in compared.bands.values() for row in rows if row.model in kept]
    aspects = [{"title": "by the word's rank in training", "rows": list(map(_band_row, frequency))}]
    for title, bin_N, names in kinds:
        rows = []
        for number, name in enumerate(names):
            here = bin_N == number
            if not here.any():
                continue
            tokens_S = np.bincount(index_N[here], minlength=len(sentences))
            there = np.flatnonzero(tokens_S)
            nats = {model: np.bincount(index_N[here], words[model].nats[here], len(sentences))[there] for model in kept}
            units = None if document_S is None else np.unique(document_S[there], return_inverse=True)[1]
            found = in_band(name, nats, tokens_S[there], units, reference, compared.resamples, compared.seed)
            rows += map(_band_row, found)
        aspects.append({"title": title, "rows": rows})
    about = (
        f"How much more or less, in percent, the perplexity of each network is than that of the {reference}: farther "
        "left is better. The 95% intervals stand for themselves, uncorrected, and are drawn by themselves, so they "
        "differ a little from those of the pairs. By frequency all test sentences are counted, else "
        f"{len(sentences):,}, evenly spaced."
    )
    return {"about": about, "reference": reference, "models": compared.networks, "aspects": aspects}


def _bins(values: np.ndarray, ends: Sequence[int], before: str) -> tuple[np.ndarray, list[str]]:
    """The bin of each value, which is 1 at least, and the names of the bins."""
    names = [str(high) if low + 1 == high else f"{low + 1}\u2013{high}" for low, high in pairwise((0, *ends))]
    names.append(f"{ends[-1] + 1} and on")
    return np.searchsorted(ends, values), [f"{before} {name}".strip() for name in names]


def _band_row(row: RelativeBand) -> dict[str, Any]:
    ends = {"low": row.ratio_low, "high": row.ratio_high}
    numbers = {"perplexity": row.perplexity, "ratio": row.ratio, **ends}
    rounded = {key: None if value is None else float(f"{value:.5g}") for key, value in numbers.items()}
    return {"model": row.model, "bin": row.band.replace("_", " ").lower(), "tokens": row.tokens, **rounded}


def _gradient(compared: Compared, inside: Mapping[str, Inside]) -> dict[str, Any]:
    def rows(model: str, norms: Sequence[float], **more: str) -> list[dict[str, Any]]:
        first = norms[0] or 1.0
        shares = (float(f"{norm / first:.4g}") for norm in norms)
        return [{"model": model, **more, "lag": lag, "share": share} for lag, share in enumerate(shares)]

    cells = []
    for name, norms in compared.norms.items():
        cells += rows(name, inside[name].gradient_at_start, when="before") + rows(name, norms, when="after")
    plain = plain_rnns(compared.evaluation_folder)
    return {"cells": cells, "plain": [row for name, norms in plain.items() for row in rows(name, norms)]}


def _neighbours(inside: Mapping[str, Inside], vocabulary: Vocabulary) -> dict[str, Any]:
    near = {name: told.neighbours for name, told in inside.items()}
    words = list(next(iter(near.values())))
    rows = [
        {
            "word": vocabulary.tokens[word],
            "near": [[[vocabulary.tokens[one], cosine] for one, cosine in found[word]] for found in near.values()],
        }
        for word in words
    ]
    return {"models": list(near), "rows": rows}


def _samples(
    samples: Mapping[str, Sequence[str]], inside: Mapping[str, Inside], temperature: float
) -> list[dict[str, Any]]:
    """By temperature, that of params.yaml among others."""
    sets = {f"{temperature:g}": dict(samples)}
    for name, told in inside.items():
        for other, texts in told.samples.items():
            sets.setdefault(other, {})[name] = texts
    chosen = f"{temperature:g}"
    return [{"temperature": one, "chosen": one == chosen, "models": sets[one]} for one in sorted(sets, key=float)]


def _hashes(configs: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, config in configs.items():
        for file, digest in (config.get("files") or {}).items():
            yield f"{name}, {file}, sha256", digest
