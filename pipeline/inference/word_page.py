"""A page that shows a text of one's own word by word, each word as several models saw it: `rnnlm score --html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.baselines import ORDERS, counted_words
from pipeline.evaluation.figures import SURPRISE
from pipeline.evaluation.inside import word_scores
from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.page import COLOURED, MOST_SHOWN, sentence_view
from pipeline.evaluation.page_frame import page
from pipeline.evaluation.results import BASELINES
from pipeline.inference.predictor import Predictor
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.unknown import with_unknown_words
from pipeline.text.vocabulary import Vocabulary

COUNTING = "fivegram"  # stands beside the networks, where the corpus that they learned from is there


def write_word_page(path: Path, lines: Sequence[str], models: Mapping[str, Predictor], source: str) -> str | None:
    """Write the page; returns what it leaves out, in a sentence.

    Args:
        path: where it goes.
        lines: a sentence each; empty ones are left out.
        models: by name, at least one. Those that read text otherwise than the first, or by other words, are left out.
        source: where the lines come from, for the page.

    Raises:
        InputError: no line holds a word.
    """
    first = next(iter(models.values()))
    same = {
        name: model
        for name, model in models.items()
        if model.vocabulary.tokens == first.vocabulary.tokens and model.text == first.text
    }
    tokens = [line for line in first.tokens(lines) if line]
    if not tokens:
        raise InputError(f"{source} holds no word; give it a sentence per line")
    counting = _counting(first.vocabulary)
    names = [*same, *([BASELINES[COUNTING]] if counting else [])]
    costs = np.cumsum([(len(sentence) + 1) * len(names) for sentence in tokens])
    kept = max(1, int(np.searchsorted(costs, MOST_SHOWN, side="right")))
    every, words = np.arange(kept), {}
    for name, model in same.items():
        split = model.encode(tokens[:kept])
        words[name] = word_scores(model.model, model.passes(split), split, every, every)
    if counting:
        split = EncodedSplit.of(map(first.vocabulary.sentence_ids, tokens[:kept]))
        words[BASELINES[COUNTING]] = counted_words(counting, split, every, every)
    view = sentence_view(
        words,
        [(number, "") for number in every.tolist()],
        dict(enumerate(tokens)),
        dict.fromkeys(words, first.vocabulary),
        bool(first.text.by_character),
        f"Each word {COLOURED}",
    )
    count = f"{kept:,} sentence{'' if kept == 1 else 's'}"
    data = {
        "surprise": SURPRISE["limits"],
        "sentences": view,
        "foot": {"commands": [f"rnnlm score {source} --html {path.name}"]},
    }
    write_text(path, page("Word by word", [f"{count} of {source}, as {len(words)} models saw them."], data, SURPRISE))
    left = [f"{len(tokens) - kept:,} more sentences do not fit"] if kept < len(tokens) else []
    left += [f"{name} reads text otherwise" for name in models if name not in same]
    return f"left out: {'; '.join(left)}" if left else None


def _counting(vocabulary: Vocabulary) -> KneserNey | None:
    """The n-gram model of the corpus in data/, if that is the one of this vocabulary; fitting it takes seconds."""
    try:
        if Vocabulary.load(VOCABULARY).tokens != vocabulary.tokens:
            return None
        train = with_unknown_words(load_split(ENCODED / "train", len(vocabulary)), vocabulary.counts, seed=0, epoch=0)
    except InputError:
        return None
    return KneserNey(train, len(vocabulary), ORDERS[COUNTING])
