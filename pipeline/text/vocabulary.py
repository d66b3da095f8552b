"""The words a model knows, and their ids.

SENTENCE_START is id 0, SENTENCE_END 1, then words by falling count from 2, and UNKNOWN_TOKEN is the last id, C-1. What
makes a token special is its id, not its spelling: a word that happens to be spelled SENTENCE_START is a word.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text

SENTENCE_START = "SENTENCE_START"
SENTENCE_END = "SENTENCE_END"
UNKNOWN_TOKEN = "UNKNOWN_TOKEN"
START_ID = 0
END_ID = 1
SPECIALS = 3

HEADER = "id\ttoken\tcount"


class Vocabulary:
    """An immutable list of C tokens; a token's place in it is its id.

    Attributes:
        tokens: C spellings, by id; those of the three special tokens are only for display.
        counts: C counts in the training split, by id. SENTENCE_START is never predicted, so its count is 0;
            SENTENCE_END's is the number of sentences; UNKNOWN_TOKEN's is the number of tokens outside the vocabulary.
        unknown_id: C-1.
    """

    def __init__(self, tokens: Sequence[str], counts: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self.counts = tuple(counts)
        self.unknown_id = len(self.tokens) - 1
        self._ids = {token: id_ for id_, token in enumerate(self.tokens[END_ID + 1 : -1], start=END_ID + 1)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The ids of `tokens`, `unknown_id` for those outside; START and END are not added."""
        ids, unknown = self._ids, self.unknown_id
        return [ids.get(token, unknown) for token in tokens]

    def sentence_ids(self, tokens: Sequence[str]) -> list[int]:
        """[START_ID, ids of `tokens`..., END_ID]: x is all but the last, y all but the first."""
        return [START_ID, *self.encode(tokens), END_ID]

    def save(self, path: Path) -> None:
        """Write the rows `id token count`, tab separated, under a header; nothing is quoted, nothing is missing.

        Raises:
            InputError: a token is empty or holds a tab or a line end, so that the file could not be read back.
        """
        for token in self.tokens:
            if not token or any(character in token for character in "\t\n\r"):
                raise InputError(f"{path} cannot hold the token {token!r}; tokens must be free of white space")
        rows = (
            f"{id_}\t{token}\t{count}\n"
            for id_, (token, count) in enumerate(zip(self.tokens, self.counts, strict=True))
        )
        write_text(path, HEADER + "\n" + "".join(rows))

    @classmethod
    def load(cls, path: Path, advice: str = "run `dvc repro vocabulary`") -> "Vocabulary":
        """Read what `save` wrote; `advice` is what a person can do where it is missing or damaged.

        Raises:
            InputError: the file is missing or not a vocabulary; names the first line that does not fit.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise InputError(f"{path} is missing; {advice}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 (byte {error.start}); {advice}") from None
        header, *lines = text.split("\n")
        if header != HEADER:
            raise InputError(f"{path}, line 1: expected the header {HEADER!r}, got {header[:80]!r}; {advice}")
        if not lines or lines.pop() != "":
            raise InputError(f"{path}: the last line is cut off; {advice}")
        return _parse(lines, path, advice)


def _parse(lines: list[str], path: Path, advice: str) -> Vocabulary:
    tokens: list[str] = []
    counts: list[int] = []
    for number, line in enumerate(lines):
        fields = line.split("\t")
        where = f"{path}, line {number + 2}"
        if len(fields) != 3 or not fields[1] or fields[0] != str(number):
            raise InputError(f"{where}: expected `{number} TOKEN COUNT`, tab separated, got {line[:80]!r}; {advice}")
        if not (fields[2].isascii() and fields[2].isdigit()):
            raise InputError(f"{where}: the count must be a whole number, got {fields[2][:80]!r}; {advice}")
        tokens.append(fields[1])
        counts.append(int(fields[2]))
    if tokens[:2] != [SENTENCE_START, SENTENCE_END] or len(tokens) < SPECIALS or tokens[-1] != UNKNOWN_TOKEN:
        raise InputError(
            f"{path}: must begin with {SENTENCE_START} and {SENTENCE_END} and end with {UNKNOWN_TOKEN}; {advice}"
        )
    first: dict[str, int] = {}
    for id_, token in enumerate(tokens[2:-1], start=2):
        if first.setdefault(token, id_) != id_:
            raise InputError(f"{path}: {token!r} is there twice, with ids {first[token]} and {id_}; {advice}")
    return Vocabulary(tokens, counts)
