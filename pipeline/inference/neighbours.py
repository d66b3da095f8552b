"""Words that a model reads alike: whose rows of its look-up table point the same way."""

from difflib import get_close_matches
from typing import NamedTuple

from pipeline.inference.predictor import Predictor
from pipeline.model.similarity import nearest
from pipeline.runtime.errors import InputError
from pipeline.text.vocabulary import END_ID


class Neighbour(NamedTuple):
    """A word, and the cosine of the angle between its row and that of the word asked for."""

    word: str
    similarity: float


def neighbours(predictor: Predictor, text: str, count: int) -> list[Neighbour]:
    """The `count` words nearest to a word, the nearest first; special tokens are none.

    The rows are those of the embedding E, or of U where words go straight to the cell.

    Raises:
        InputError: the text is not one word that the model knows.
    """
    model, vocabulary = predictor.model, predictor.vocabulary
    (words,) = predictor.tokens([text])
    if len(words) != 1:
        raise InputError(f"{text!r} is {len(words)} words to the model: {', '.join(words) or 'none'}; name one")
    (word,) = vocabulary.encode(words)
    if word == vocabulary.unknown_id:
        near = get_close_matches(words[0], vocabulary.tokens[END_ID + 1 : -1], 3)
        meant = f"did you mean {', '.join(near)}?" if near else "it stands for all rare ones as UNKNOWN_TOKEN"
        raise InputError(f"the model does not know the word {words[0]!r}; {meant}")
    known = range(END_ID + 1, len(vocabulary) - 1)
    ids_1K, similarity_1K = nearest(model, known, [word], min(count, len(known) - 1))
    return [
        Neighbour(vocabulary.tokens[id_], similarity)
        for id_, similarity in zip(ids_1K[0].tolist(), similarity_1K[0].tolist(), strict=True)
    ]
