"""What goes on inside a network, for the report's page: each word of the test split, units, neighbours, gradients.

inside.json of a model has
    gradient_at_start   as gradient_flow.csv, of the weights that training began with (random ones)
    units               of a few sentences, by their index in the split: the values, in hundredths, of the units of the
                        last layer that vary the most, a row for each word read, SENTENCE_START first
    unit_numbers        which units these are
    samples             what else the model writes, by temperature, as text
    neighbours          of some words, by their ids: pairs of the id of a word near by and their cosine
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pipeline.evaluation.gradient_flow import gradient_norms
from pipeline.evaluation.words import LIKELIEST, NOT_LOOKED, Words, drawn, showable
from pipeline.model.arithmetic import product
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import PackedBatch, pack
from pipeline.model.similarity import nearest
from pipeline.model.streams import Carried
from pipeline.runtime.files import write_text
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import END_ID, Vocabulary

LOGIT_ROWS = 1024  # whose logits exist at a time
UNIT_SENTENCES, UNITS = 4, 40  # shown
NEIGHBOURS, QUERIES = 5, 20  # words near by, of how many words
COMMON_WORDS = 5000  # that may be neighbours: rarer ones hardly moved from where they were drawn
QUERY_RANKS = (40, 2000)  # by training frequency


@torch.no_grad()
def word_scores(
    model: LanguageModel,
    passes: Iterable[tuple[PackedBatch, np.ndarray, Carried | None]],
    split: EncodedSplit,
    chosen: np.ndarray,
    shown: np.ndarray,
) -> Words:
    """What a model spends on each word of some sentences of a split.

    Args:
        model: in evaluation mode.
        passes: over the whole split, as `Predictor.passes` gives them.
        split: the sentences.
        chosen: which of them, by rising index.
        shown: of these, for which the likeliest words are found.
    """
    lengths = split.lengths[chosen]
    of_N = np.repeat(np.arange(len(chosen)), lengths)  # N: predicted tokens of the sentences chosen
    starts_S = np.cumsum(split.lengths) - split.lengths
    place_T = np.full(split.tokens, -1)  # T: those of the whole split
    token_N = starts_S[chosen][of_N] + np.arange(len(of_N)) - (np.cumsum(lengths) - lengths)[of_N]
    place_T[token_N] = np.arange(len(of_N))
    is_shown_N = np.isin(chosen, shown)[of_N]
    target_N, nats_N = np.empty(len(of_N), np.int32), np.empty(len(of_N), np.float32)
    likeliest_NK = np.full((len(of_N), LIKELIEST), NOT_LOOKED, np.int32)
    likeliest_nats_NK = np.zeros((len(of_N), LIKELIEST), np.float32)
    count = min(LIKELIEST, model.vocabulary_size)
    for batch, token_B, carried in passes:
        h_BH = model.read(batch, carried)
        wanted = np.flatnonzero(place_T[token_B] >= 0)
        for rows in np.split(wanted, range(LOGIT_ROWS, len(wanted), LOGIT_ROWS)):
            if not len(rows):
                continue
            place_R, y_R = place_T[token_B[rows]], batch.y_N[rows]
            logits_RC = product(h_BH[rows], model.output_weight.t())
            if model.c is not None:
                logits_RC += model.c
            nats_R = cross_entropy(logits_RC, y_R, reduction="none")
            target_N[place_R], nats_N[place_R] = y_R.cpu().numpy(), nats_R.cpu().numpy()
            asked = np.flatnonzero(is_shown_N[place_R])
            if len(asked):
                top = logits_RC[asked].topk(count)
                own_R1 = logits_RC.gather(1, y_R.unsqueeze(1))[asked]
                likeliest_NK[place_R[asked], :count] = top.indices.cpu().numpy()
                # ln P of two words differ as their logits do: no exponential, which processors round differently.
                found = (nats_R[asked].unsqueeze(1) + own_R1 - top.values).clip(min=0)
                likeliest_nats_NK[place_R[asked], :count] = found.cpu().numpy()
    return Words(chosen[of_N].astype(np.int32), target_N, nats_N, likeliest_NK, likeliest_nats_NK)


def look_inside(
    model: LanguageModel, vocabulary: Vocabulary, test: EncodedSplit, texts: EncodedSplit, seed: int
) -> dict[str, Any]:
    """What inside.json holds.

    Args:
        model: in evaluation mode.
        vocabulary: its own.
        test: the test split.
        texts: what gradients are measured on, as the model reads it: the test split or pieces of it.
        seed: what its first weights were drawn with.
    """
    first = LanguageModel(model.params, model.vocabulary_size, torch.Generator().manual_seed(seed)).eval()
    numbers, units = _units(model, test, int(texts.ids[0]))
    return {
        "gradient_at_start": [float(f"{norm:.6g}") for norm in gradient_norms(first, texts)],
        "unit_numbers": numbers,
        "units": units,
        "neighbours": _neighbours(model, vocabulary),
        "samples": {},
    }


def write_inside(path: Path, inside: dict[str, Any]) -> None:
    """Write inside.json."""
    write_text(path, json.dumps(inside, separators=(",", ":"), allow_nan=False) + "\n")


@torch.no_grad()
def _units(model: LanguageModel, test: EncodedSplit, start: int) -> tuple[list[int], dict[str, list[list[int]]]]:
    values = {}
    for sentence in drawn(showable(test.lengths), UNIT_SENTENCES).tolist():
        ids = test.ids[test.offsets[sentence] : test.offsets[sentence + 1]].tolist()
        batch = pack(EncodedSplit.of([[start, *ids[1:]]]), [0])  # what the first word of a text follows
        values[str(sentence)] = model.hidden(batch.x_N, batch.batch_sizes)[0].double().numpy()
    if not values:
        return [], {}
    spread_H = np.concatenate(list(values.values())).var(axis=0)
    numbers = np.argsort(-spread_H, kind="stable")[:UNITS]
    rounded = {sentence: np.rint(100 * h_TH[:, numbers]).astype(int).tolist() for sentence, h_TH in values.items()}
    return numbers.tolist(), rounded


def _neighbours(model: LanguageModel, vocabulary: Vocabulary) -> dict[str, list[tuple[int, float]]]:
    common = range(END_ID + 1, min(END_ID + 1 + COMMON_WORDS, len(vocabulary) - 1))
    found = [id_ for id_ in common if vocabulary.tokens[id_].isalpha()]
    within = [id_ for id_ in found if QUERY_RANKS[0] <= id_ - common.start < QUERY_RANKS[1]] or found
    places = np.unique(np.geomspace(1, max(len(within), 1), QUERIES).astype(int)) - 1 if within else []
    queries = [within[place] for place in places]
    if not queries:
        return {}
    ids_QK, cosine_QK = nearest(model, common, queries, min(NEIGHBOURS, len(common) - 1))
    return {
        str(query): [(id_, round(cosine, 2)) for id_, cosine in zip(ids, cosines, strict=True)]
        for query, ids, cosines in zip(queries, ids_QK.tolist(), cosine_QK.tolist(), strict=True)
    }
