"""Words that a model does not know, of a corpus and of texts, which share the probability of UNKNOWN_TOKEN.

Those of a corpus are kept as hashes: so a server holds millions of them, and a model in MLflow has them beside it.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from pipeline.model.folder import TextRules
from pipeline.runtime.errors import InputError
from pipeline.text.marks import UNKNOWN_MARK
from pipeline.text.vocabulary import Vocabulary

UNKNOWN_TYPES_FILE = "unknown_types.npy"


def differing_rule(one: TextRules, other: TextRules) -> tuple[str, str, str] | None:
    """The first parameter of `tokenize` by which two read other words from a text, and both its values; None: none."""
    for name, values in (
        ("lowercase", [json.dumps(rules.lowercase) for rules in (one, other)]),
        ("language", ["characters" if rules.by_character else "one with words" for rules in (one, other)]),
    ):
        if len({*values}) > 1:
            return name, values[0], values[1]
    return None


def check_reads_corpus(text: TextRules, corpus: TextRules) -> None:
    """Raise InputError where a corpus that was read by the rules `corpus` has other words for a model."""
    if differing := differing_rule(text, corpus):
        name, trained, today = differing
        raise InputError(
            f"the model was trained with tokenize.{name} {trained}, params.yaml says {today}, so data/tokens has other "
            "words; set it back and run `dvc repro tokenize`"
        )


def unknown_types_with(corpus: np.ndarray, vocabulary: Vocabulary, sentences: Iterable[Sequence[str]]) -> int:
    """How many word types a vocabulary does not know, of a corpus (see `scoring.unknown_types_of`) and of sentences.

    Marks of unknown words are one type, as they are in the corpus.
    """
    found = {word for words in sentences for word in words}
    own = type_hashes(vocabulary, {"" if UNKNOWN_MARK.fullmatch(word) else word for word in found})
    there = np.searchsorted(corpus, own, "right") - np.searchsorted(corpus, own)
    return len(corpus) + int((there == 0).sum())


def type_hashes(vocabulary: Vocabulary, words: Iterable[str]) -> np.ndarray:
    """Hashes of those of `words` that a vocabulary does not know, uint64, in their order."""
    words = list(words)
    unknown = [
        blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
        for word, id_ in zip(words, vocabulary.encode(words), strict=True)
        if id_ == vocabulary.unknown_id
    ]
    return np.frombuffer(b"".join(unknown), "<u8").astype(np.uint64)
