r"""An n-gram model as an ARPA file, the format that SRILM, KenLM and most decoders of speech read.

A line of `\k-grams:` is log10 p(its last word | the words before), the words, and log10 gamma of it as a context, which
takes part where a longer n-gram was never seen; tab-separated. What KenLM reads has these probabilities to seven
digits. SENTENCE_START is `<s>` there, SENTENCE_END `</s>`, UNKNOWN_TOKEN `<unk>`. N-grams come in the order of their
ids; so equal models give equal bytes.

Arrays end in their size: B n-grams of a block.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import atomic_path
from pipeline.text.vocabulary import Vocabulary

START_WORD, END_WORD, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
RESERVED = {START_WORD, END_WORD, UNKNOWN_WORD, "<UNK>"}  # KenLM reads <UNK> as <unk>
SEPARATORS = frozenset("\0\t\n\v\f\r ")  # of KenLM's reader
NEVER_PREDICTED = -99.0  # log10 p(<s>), as SRILM writes it, and the least there is


def write_arpa(
    path: Path, model: KneserNey, vocabulary: Vocabulary, told: Callable[[int], object] = lambda ngrams: None
) -> list[int]:
    """Write `model` to `path`, whole or not at all; returns its numbers of n-grams, from unigrams up.

    `told` is called with a number of n-grams each time so many were written.

    Raises:
        InputError: the vocabulary has a word that such a file cannot hold.
    """
    words = pa.array(words_of(vocabulary))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        counts = model.sizes()
        lines = [f"ngram {order}={count}\n" for order, count in enumerate(counts, 1)]
        file.write(f"\\data\\\n{''.join(lines)}".encode())
        for order, blocks in enumerate(model.tables(), 1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for ids, p_B, gamma_B in blocks:
                file.write(_lines(words, ids, p_B, gamma_B))
                told(len(p_B))
        file.write(b"\n\\end\\\n")
    return counts


def words_of(vocabulary: Vocabulary) -> list[str]:
    """The words of a vocabulary by id, as an ARPA file has them.

    Raises:
        InputError: one cannot be told from a mark of the format, or holds what stands between words there.
    """
    words = vocabulary.tokens[2:-1]
    for id_, word in enumerate(words, start=2):
        if word in RESERVED or not SEPARATORS.isdisjoint(word):
            raise InputError(
                f"an ARPA file cannot hold the word {word!r} (id {id_} of the vocabulary): it means something else "
                f"there; take it out of the corpus, or lower vocabulary.size below its id"
            )
    return [START_WORD, END_WORD, *words, UNKNOWN_WORD]


def _lines(words: pa.Array, ids: Sequence[np.ndarray], p_B: np.ndarray, gamma_B: np.ndarray | None) -> memoryview:
    """A block's lines; see `KneserNey.tables`."""
    text = _joined([words.take(pa.array(ids_B)) for ids_B in ids], " ")
    columns = [_log10(p_B), text, *([] if gamma_B is None else [_log10(gamma_B)])]
    lines = _joined([_joined(columns, "\t"), pa.scalar("")], "\n")
    _, offsets, data = lines.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int32)[len(lines)]]  # they lie one after the other


def _joined(columns: Sequence[pa.Array | pa.Scalar], separator: str) -> pa.Array:
    return pc.call_function("binary_join_element_wise", [*columns, pa.scalar(separator)])


def _log10(values_B: np.ndarray) -> pa.Array:
    """In the fewest digits that give the same in single precision, which is what KenLM keeps."""
    with np.errstate(divide="ignore"):  # SENTENCE_START is never predicted
        log10_B = np.maximum(np.log10(values_B), NEVER_PREDICTED) + 0.0  # no -0
    return pc.cast(pa.array(log10_B.astype(np.float32)), pa.string())
