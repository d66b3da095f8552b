"""Is anybody promoted by luck, and is a better recipe? Models of the project's own cells, trained with several seeds.

Test sets are drawn from the test documents, with replacement, as many as there are. On each, a model of a cell is
champion, and models of the same cell with other seeds are judged: promotions are luck. Then models of a recipe that is
4% better, over all seeds and documents: the same cell and another one, whose nats a token are moved to that. The last
column is a paired test of the two models alone, always at 95%: the fault that this is about.

`python -m benchmarks.promotion FOLDER` reads `FOLDER/CELL-SEED/sentences.parquet`, as the stage `evaluate` writes them.
Where the folder is not there it is made, from the last two cells of params.yaml and `--seeds` seeds of each, which
takes minutes a model and needs one `make repro` before.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as parquet
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness import start
from benchmarks.quality import train_silently
from pipeline.evaluation.bootstrap import CONFIDENCE
from pipeline.evaluation.paired import paired_bootstrap
from pipeline.evaluation.recipes import SeedSpread, recipe_test, usual_sd
from pipeline.evaluation.scores import write_sentences
from pipeline.inference.predictor import Predictor
from pipeline.inference.scoring import score_split
from pipeline.model.folder import SavedModel, TextRules
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.review.judgements import needed
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import load_documents, load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers

GAIN = -math.log(0.96)  # nats a token of a recipe that is 4% better
RESAMPLES = 400  # of each test set; the standard error needs no more
Pair = tuple[np.ndarray, Sequence[np.ndarray]]  # the champion's nats, and those of the challengers in their order


@dataclass(frozen=True)
class Seeds:
    """Models of a few cells on the same test sentences."""

    tokens: np.ndarray  # (sentences,)
    document: np.ndarray  # (sentences,)
    nats: Mapping[str, np.ndarray]  # (models, sentences) by cell

    def mean(self, cell: str) -> float:
        """Nats a token of a cell's recipe: over its models and all sentences."""
        return float(self.nats[cell].sum(axis=1).mean() / self.tokens.sum())

    def sd(self, cell: str) -> float:
        """Of these, over the models."""
        return float((self.nats[cell].sum(axis=1) / self.tokens.sum()).std(ddof=1))


def read_seeds(folder: Path) -> Seeds:
    """What the folders CELL-SEED hold, of cells with two models at least.

    Raises:
        InputError: there is none, or they are not of the same sentences of documents.
    """
    found: dict[str, list[np.ndarray]] = {}
    common: list[np.ndarray] = []
    for path in sorted(folder.glob("*-*/sentences.parquet")):
        name = re.fullmatch(r"(.+)-\d+", path.parent.name)
        table = parquet.read_table(path)
        if name is None or "document" not in table.column_names:
            continue
        columns = [table[column].to_numpy() for column in ("tokens", "document")]
        common = common or columns
        if not all(map(np.array_equal, columns, common)):
            raise InputError(f"{path} is not of the same sentences as the others in {folder}")
        found.setdefault(name[1], []).append(table["nats"].to_numpy())
    nats = {cell: np.stack(models) for cell, models in found.items() if len(models) > 1}
    if not nats:
        raise InputError(f"{folder} has no CELL-SEED/sentences.parquet of two seeds of a cell, with documents")
    return Seeds(common[0], common[1], nats)


def make_seeds(folder: Path, seeds: int) -> None:
    """Train the last two cells of params.yaml with seeds 1, 2 and so on, and score them."""
    vocabulary = Vocabulary.load(VOCABULARY)
    splits = {split: load_split(ENCODED / split) for split in ("train", "valid", "test")}
    documents = load_documents(ENCODED / "test", len(splits["test"]))
    for cell in list(load_params().cells.values())[-2:]:
        for seed in range(1, seeds + 1):
            params = in_numbers(cell.train.model_copy(update={"seed": seed}), cell.model, splits["train"].tokens)
            model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(seed))
            train_silently(model, splits, vocabulary, params)
            saved = SavedModel(model.eval(), vocabulary, TextRules(lowercase=True), params.model_dump())
            sums = score_split(Predictor(saved), splits["test"], f"{cell.name} {seed}")
            write_sentences(folder / f"{cell.name}-{seed}" / "sentences.parquet", sums, documents)


def promoted(of: Seeds, sentences: np.ndarray, document: np.ndarray, pair: Pair, sd: float, draw: int) -> list[bool]:
    """Whether any of the challengers is promoted, judged in turn on a test set; likewise by a test of two models."""
    by_recipe = by_model = False
    champion, challengers = pair
    for number, challenger in enumerate(challengers, 1):
        nats_a, nats_b, tokens = (part[sentences] for part in (champion, challenger, of.tokens))
        result = paired_bootstrap(nats_a, nats_b, tokens, document, RESAMPLES, draw)
        spread = SeedSpread(sd)
        found = recipe_test(result, spread, spread, needed(CONFIDENCE, number))
        by_recipe |= found is not None and found.better == "B"
        by_model |= result.better == "B"
    return [by_recipe, by_model]


def shares(of: Seeds, champions: str, challengers: str, gain: float | None, draws: int, sd: float) -> list[str]:
    """Of `draws` test sets, the share on which somebody is promoted.

    Args:
        of: the models.
        champions: the cell that a champion is drawn from.
        challengers: that of the challengers; of the champion's cell all others.
        gain: moves the challengers' recipe to so many nats a token better, of whom one is judged; None: all in turn.
        draws: test sets.
        sd: over seeds.
    """
    chance = np.random.default_rng(draws)
    order = np.argsort(of.document, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(of.document))[:-1])
    moved = 0.0 if gain is None else of.mean(champions) - of.mean(challengers) - gain
    counts = np.zeros(2)
    for draw in range(draws):
        drawn = [members[document] for document in chance.integers(0, len(members), len(members))]
        document = np.repeat(np.arange(len(members)), [len(part) for part in drawn])
        places = chance.permutation(len(of.nats[challengers]))
        champion = chance.integers(len(of.nats[champions])) if champions != challengers else places[0]
        rest = places[1:] if champions == challengers else places
        nats = [of.nats[challengers][place] + moved * of.tokens for place in (rest if gain is None else rest[:1])]
        pair = (of.nats[champions][champion], nats)
        counts += promoted(of, np.concatenate(drawn), document, pair, sd, draw)
    return [f"{count / draws:.1%}" for count in counts]


def main(
    folder: Annotated[Path, typer.Argument(help="of CELL-SEED/sentences.parquet; made if missing")] = Path(
        ".rnnlm/seeds"
    ),
    draws: Annotated[int, typer.Option(min=1, help="test sets a row")] = 400,
    seeds: Annotated[int, typer.Option(min=2, help="that are trained where the folder is missing")] = 4,
) -> None:
    """Print how often a judgement promotes."""
    if not folder.exists():
        make_seeds(folder, seeds)
    of, stated = read_seeds(folder), load_params().retrain.seed_sd
    stated = usual_sd(load_split(ENCODED / "train").tokens) if stated == "auto" else stated
    columns = ["champion", "challengers", "recipe is better by", "judgements", "promoted", "by a test of two models"]
    table = Table(*columns, title=f"standard deviation over seeds taken: {stated}")
    for cell, nats in of.nats.items():
        about = f"{cell} ({len(nats)} seeds, sd {of.sd(cell):.4f})"
        table.add_row(about, cell, "0%", "1", *shares(of, cell, cell, 0.0, draws, stated))
        table.add_row(about, cell, "0%", f"1 to {len(nats) - 1}", *shares(of, cell, cell, None, draws, stated))
        for other in of.nats:
            table.add_row(about, other, "4%", "1", *shares(of, cell, other, GAIN, draws, stated))
    Console(width=140).print(table)


if __name__ == "__main__":
    start(main)
