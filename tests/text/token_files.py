"""Files of tokens, as the stage `tokenize` leaves them, with the words of the tutorial's sentence."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.text import tokens
from pipeline.text.splits import SPLITS
from tests.conftest import vocabulary_of

TUTORIAL = ["what", "are", "n't", "you", "understanding", "about", "this", "?", "!"]
WORDS = vocabulary_of({word: 20 - place for place, word in enumerate(TUTORIAL)}, size=None, sentences=1)
Rows = Sequence[tuple[str, Sequence[str | None]]]


def write_rows(path: Path, rows: Rows) -> Path:
    splits, sentences = [split for split, _ in rows], [sentence for _, sentence in rows]
    pq.write_table(pa.table([splits, splits, sentences], schema=tokens.TOKEN_SCHEMA), path)
    return path


def one_each(sentence: list[str]) -> Rows:
    return [(split, sentence) for split in SPLITS]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
