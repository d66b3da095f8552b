"""Do intervals hold, and are verdicts as rare by luck as they say? Test sets drawn from the project's own documents.

The documents of the validation and test splits, all together, are the truth here: of so many of them, drawn with
replacement, a test set is made, and that again and again. A 95% interval holds if 95% of these sets' intervals contain
the perplexity over all documents. And of two models whose difference is moved to nothing over all documents, 5% of the
sets may find one better, half of them the second, which would then be promoted. Where sets are too small, intervals are
withheld: the rest is counted. Then the report's matrix: of twenty models that are equal in truth, any verdict is false.
`python -m benchmarks.coverage` takes some minutes and needs one `make repro` before.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness import start
from pipeline.evaluation.bootstrap import CONFIDENCE, bootstrap
from pipeline.evaluation.matrix import compare_all
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import ENCODED, MODELS, TOKENS
from pipeline.text.encoded import load_split
from pipeline.text.tokens import read_documents_of

EQUAL_MODELS = 20  # of a matrix
SIZES = (8, 20, 100, 175)  # documents of a test set; the default corpus has as many as the last


@dataclass(frozen=True)
class Population:
    """All sentences that test sets are drawn from, `(sentences,)` each."""

    document: np.ndarray
    tokens: np.ndarray
    nats: np.ndarray  # of one model
    difference: np.ndarray  # nats of another model less those, its mean a token moved to 0


def population() -> Population:
    """The sentences of the validation and test splits, scored by the last two cells of params.yaml."""
    names = list(load_params().cells)[-2:]
    documents = [read_documents_of(TOKENS, split) for split in ("valid", "test")]
    if len(names) < 2 or documents[0] is None or documents[1] is None:
        raise InputError("coverage needs two cells in params.yaml, and a corpus of documents")
    first, second = (_nats_and_tokens(name) for name in names)
    tokens, difference = first[1], second[0] - first[0]
    return Population(
        np.concatenate([documents[0], documents[1] + documents[0].max() + 1]),
        tokens,
        first[0],
        difference - difference.sum() / tokens.sum() * tokens,
    )


def _nats_and_tokens(name: str) -> tuple[np.ndarray, np.ndarray]:
    predictor = Predictor.load(MODELS / name)
    parts = [
        score_split(predictor, load_split(ENCODED / split), f"{name} on {split}").sentences
        for split in ("valid", "test")
    ]
    return np.concatenate([part.nats for part in parts]), np.concatenate([part.tokens for part in parts])


def row(of: Population, size: int, draws: int, resamples: int, by_documents: bool) -> list[str]:
    """One line of the table, from `draws` test sets of `size` documents."""
    chance = np.random.default_rng(size)
    members = np.split(np.argsort(of.document, kind="stable"), np.cumsum(np.bincount(of.document))[:-1])
    truth = of.nats.sum() / of.tokens.sum()
    held, first, second, effective = 0, 0, 0, []
    given = 0
    for draw in range(draws):
        drawn = [members[document] for document in chance.integers(0, len(members), size)]
        sentences = np.concatenate(drawn)
        document = np.repeat(np.arange(size), [len(part) for part in drawn]) if by_documents else None
        columns_KS = np.stack([of.nats[sentences], of.difference[sentences], of.tokens[sentences]])
        found = bootstrap(columns_KS, of.tokens[sentences], document, resamples, draw)
        nats_B, difference_B, tokens_B = found.sums_BK.T
        effective.append(found.effective)
        interval, gain = found.interval(nats_B / tokens_B), found.interval(difference_B / tokens_B)
        if interval is not None and gain is not None:
            given += 1
            held += interval[0] <= truth <= interval[1]
            first += gain[0] > 0
            second += gain[1] < 0
    shares = [f"{count / given:.1%}" if given else "-" for count in (held, first + second, second)]
    unit = "documents" if by_documents else "sentences"
    return [str(size), unit, f"{np.median(effective):,.1f}", f"{1 - given / draws:.0%}", *shares]


def matrices(of: Population, size: int, draws: int, resamples: int) -> tuple[int, int, int]:
    """Of so many matrices of equal models: those with a verdict, with one without the correction, and withheld.

    On each document drawn each model differs from the first one by what two real models differ there, one way or the
    other by chance.
    """
    chance = np.random.default_rng(size)
    tokens, nats, difference = (np.bincount(of.document, column) for column in (of.tokens, of.nats, of.difference))
    corrected = uncorrected = withheld = 0
    for draw in range(draws):
        drawn = chance.integers(0, len(tokens), size)
        signs = chance.choice([-1, 1], (EQUAL_MODELS, size))
        models = {str(number): nats[drawn] + sign * difference[drawn] for number, sign in enumerate(signs)}
        pairs = compare_all(models, tokens[drawn].astype(np.int64), np.arange(size), resamples, draw).pairs
        withheld += not pairs
        corrected += any(pair.better for pair in pairs)
        uncorrected += any(pair.p < 1 - CONFIDENCE for pair in pairs)
    return corrected, uncorrected, withheld


def main(
    draws: Annotated[int, typer.Option(min=1, help="test sets of each size")] = 400,
) -> None:
    """Print how often intervals hold and verdicts are false."""
    of, resamples = population(), load_params().evaluate.bootstrap_samples
    table = Table("documents", "resampled", "effective number", "withheld", "95% holds", "false verdicts", "promotions")
    for size in SIZES:
        table.add_row(*row(of, size, draws, resamples, by_documents=True))
    table.add_row(*row(of, SIZES[-1], draws, resamples, by_documents=False))
    console = Console(width=140)
    console.print(table)
    table = Table(
        "documents", f"matrices of {EQUAL_MODELS} equal models", "withheld", "with a verdict", "without correction"
    )
    for size in SIZES:
        corrected, uncorrected, withheld = matrices(of, size, draws, resamples)
        given = draws - withheld
        shares = [f"{count / given:.1%}" if given else "-" for count in (corrected, uncorrected)]
        table.add_row(str(size), str(draws), f"{withheld / draws:.0%}", *shares)
    console.print(table)


if __name__ == "__main__":
    start(main)
