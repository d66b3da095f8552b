"""All figures of a model on a whole split or text; a served model needs none of them, nor the packages they need."""

from pathlib import Path

import numpy as np

from pipeline.evaluation.scores import ScoreSums
from pipeline.inference.predictor import Predictor, sentences_of_tokens
from pipeline.inference.word_types import type_hashes
from pipeline.runtime.progress import progress_bar
from pipeline.text.encoded import EncodedSplit
from pipeline.text.splits import SPLITS
from pipeline.text.tokens import read_tokens
from pipeline.text.vocabulary import Vocabulary


def score_split(predictor: Predictor, split: EncodedSplit, task: str) -> ScoreSums:
    """Sums over every target of `split`, by sentence and by frequency band, under the full softmax.

    The split is encoded with the model's vocabulary, and its order is that of the sums; `task` names the progress bar.
    """
    sums, sentence_of = ScoreSums(len(split), len(predictor.vocabulary)), sentences_of_tokens(split)
    with progress_bar(task, split.tokens, "tokens") as bar:
        for batch, token_N, carried in predictor.passes(split):
            scores = predictor.model.score(batch, carried)
            target_N, nats_N, rank_N = (part.cpu().numpy() for part in (batch.y_N, scores.nats_N, scores.rank_N))
            sums.add(sentence_of[token_N], target_N, nats_N, rank_N)
            bar.advance(len(token_N))
    return sums


def unknown_types_of(tokens: Path, vocabulary: Vocabulary) -> np.ndarray:
    """Hashes of the word types of a corpus that a vocabulary does not know: uint64 (types,), sorted.

    They are those of all splits of `tokens`. Words that the corpus itself marks as unknown are one more type.

    Raises:
        InputError: the tokens cannot be read.
    """
    found = [np.empty(0, np.uint64)]
    with progress_bar("word types", None, "sentences") as bar:
        for split in SPLITS:
            for rows in read_tokens(tokens, split):
                found.append(type_hashes(vocabulary, [word or "" for word in rows.flatten().unique().to_pylist()]))
                bar.advance(len(rows))
    return np.unique(np.concatenate(found))
