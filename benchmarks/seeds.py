"""Are equal recipes told apart? The seeds of one cell split into two halves, in all ways, and compared as recipes.

Eight seeds of the GRU, all of one recipe, make 35 pairs of four and four. `cannot be told apart` is right for each of
them; a paired test of two models finds a winner in most pairs of seeds. `python -m benchmarks.seeds` trains them first,
in .rnnlm/seeds (a quarter of an hour), or reads `--scores FOLDER`, with one folder a seed that holds its
sentences.parquet.
"""

import itertools
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.harness import start
from pipeline.evaluation.paired import paired_bootstrap
from pipeline.evaluation.recipes import paired_recipes
from pipeline.evaluation.results import SENTENCES_FILE, SavedScores, scores_of
from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.paths import EVALUATION, seed_folders
from tools.headline import made_with_seeds

SEEDS_TREE = Path(".rnnlm/seeds")


def halves(seeds: int) -> list[tuple[list[int], list[int]]]:
    """All ways to split so many seeds into two halves, each once."""
    firsts = (chosen for chosen in itertools.combinations(range(seeds), seeds // 2) if 0 in chosen)
    return [(list(chosen), [seed for seed in range(seeds) if seed not in chosen]) for chosen in firsts]


def count(scores: list[SavedScores], resamples: int, seed: int) -> tuple[int, int, int, int]:
    """Of the halves, how many can be told apart, and how many there are; of pairs of single models likewise."""
    nats, first = np.stack([each.nats for each in scores]), scores[0]
    same = first.tokens, first.document, resamples, seed
    splits, pairs = halves(len(scores)), list(itertools.combinations(nats, 2))
    told = sum(paired_recipes(nats[one], nats[other], *same).better is not None for one, other in splits)
    single = sum(paired_bootstrap(one, other, *same).better is not None for one, other in pairs)
    return told, len(splits), single, len(pairs)


def main(
    scores: Annotated[Path | None, typer.Option(help="with a folder for each seed; default: train them")] = None,
    cell: Annotated[str, typer.Option(help="of params.yaml")] = "gru",
    seeds: Annotated[int, typer.Option(min=4, help="an even number")] = 8,
) -> None:
    """Print how often the halves of one recipe's seeds are told apart, and how often pairs of its models are."""
    if scores is None:
        made_with_seeds(SEEDS_TREE, {cell: seeds}, f"evaluate@{cell}")
        folders = seed_folders(SEEDS_TREE / EVALUATION / cell)
    else:
        folders = sorted(path.parent for path in scores.glob(f"*/{SENTENCES_FILE}"))
    if len(folders) < 4 or len(folders) % 2:
        raise InputError(f"an even number of seeds is needed, from 4 on; there are {len(folders)}")
    options = load_params().evaluate
    read = [scores_of(folder / SENTENCES_FILE) for folder in folders]
    perplexities = [float(np.exp(each.nats.sum() / each.tokens.sum())) for each in read]
    told, splits, single, pairs = count(read, options.bootstrap_samples, options.seed)
    print(f"perplexities of {len(read)} seeds: {', '.join(f'{perplexity:.2f}' for perplexity in perplexities)}")
    print(f"recipes of {len(read) // 2} seeds each: {splits - told} of {splits} cannot be told apart")
    print(f"single models: {pairs - single} of {pairs} cannot be told apart")


if __name__ == "__main__":
    start(main)
