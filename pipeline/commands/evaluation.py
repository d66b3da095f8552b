"""Commands that take what the baselines counted elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.common import JsonOption, enter_project, examples, print_json
from pipeline.runtime.errors import InputError

app = typer.Typer()


@app.command(epilog=examples("rnnlm export --arpa fivegram.arpa", "rnnlm export --arpa trigram.arpa --order 3 --json"))
def export(
    arpa: Annotated[Path, typer.Option(dir_okay=False, help="the file to write")],
    order: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="words in the longest n-gram, KenLM reads up to 6; default: as the best baseline on validation",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the Kneser-Ney model of the training split as an ARPA file, which KenLM, SRILM and decoders read."""
    from pipeline.evaluation.arpa import words_of, write_arpa
    from pipeline.evaluation.baselines import ORDERS
    from pipeline.evaluation.kneser_ney import KneserNey
    from pipeline.runtime.exactness import warn_if_not_exact
    from pipeline.runtime.paths import ENCODED, VOCABULARY
    from pipeline.runtime.progress import progress_bar
    from pipeline.text.encoded import load_split
    from pipeline.text.unknown import with_unknown_words
    from pipeline.text.vocabulary import Vocabulary

    path = arpa.absolute()
    enter_project()
    warn_if_not_exact()
    vocabulary = Vocabulary.load(VOCABULARY)
    words_of(vocabulary)  # what cannot be written is said before anything is counted
    train, valid = (load_split(ENCODED / split, len(vocabulary)) for split in ("train", "valid"))
    train = with_unknown_words(train, vocabulary.counts, seed=0, epoch=0)
    orders = [order] if order else [baseline for baseline in ORDERS.values() if baseline > 1]
    with progress_bar("count", len(train.ids) * sum(length - 1 for length in orders), "n-grams") as bar:
        models = {length: KneserNey(train, len(vocabulary), length, bar.advance) for length in orders}
    best = min(models, key=lambda length: models[length].nats(valid).mean()) if len(models) > 1 else orders[0]
    model = models[best]
    if empty := model.sizes().count(0):
        raise InputError(f"no sentence gives an n-gram of {best} words; --order {best - empty} or less has some")
    with progress_bar("export", sum(model.sizes()), "n-grams") as bar:
        write_arpa(path, model, vocabulary, bar.advance)
    if as_json:
        print_json({"file": str(arpa), "order": best, "ngrams": model.sizes()})
    else:
        print(f"{arpa}: n-grams of {best} words and less, {sum(model.sizes()):,} of them")
