"""Commands that use a model: what it writes, what it says of texts, and its server."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import (
    JsonLinesOption,
    ModelOption,
    enter_project,
    examples,
    predictor_called,
    print_rows,
    saved_model_called,
    unknown_types_for,
)
from pipeline.runtime.errors import InputError

if TYPE_CHECKING:
    from pipeline.model.folder import SavedModel

app = typer.Typer()


@app.command()
def generate(
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of sentences")] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    temperature: Annotated[float, typer.Option(min=1e-6, help="below 1 favours likely words")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw only from the k likeliest words")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="in words; default: evaluate.max_length")] = None,
    prompt: Annotated[str, typer.Option(help="how every sentence begins")] = "",
) -> None:
    """Generate sentences, one per line."""
    from pipeline.inference.generation import Decoding, readable

    predictor = predictor_called(model)
    try:
        decoding = Decoding(temperature, top_k, max_length or enter_project().evaluate.max_length, seed)
    except InputError as error:  # the folder of a model needs no project around it
        raise InputError(f"{error}, or give --max-length") from None
    (sentences,) = predictor.generate(predictor.tokens([prompt]), count, decoding)
    for tokens in sentences:
        print(readable(tokens))


@app.command(
    epilog=examples(
        "rnnlm score sentences.txt",
        "tail -f comments.txt | rnnlm score - --model lstm",
        "rnnlm score stimuli.txt --per-word > surprisal.tsv",
        "rnnlm score sentences.txt --json",
    )
)
def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="UTF-8, one sentence per line; - for standard input")],
    model: ModelOption = None,
    per_word: Annotated[
        bool,
        typer.Option("--per-word", help="a row for each token: line, word, text, token, nats, bits, rank, unknown"),
    ] = False,
    over_types: Annotated[
        bool,
        typer.Option("--over-types", help="share the probability of unknown words among those of the corpus and FILE"),
    ] = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Score sentences: print each line's natural-log probability, its tokens, counting the end, and how many of these
    are words that the model does not know; tab-separated.

    All unknown words have one probability together, unless --over-types: then a line is charged for naming them.
    Lines are answered as they come.
    """
    from pipeline.inference.lines import SeveralSentences, opened, parts_of
    from pipeline.inference.surprisal import Word, surprisal_of_lines, surprisal_of_words
    from pipeline.inference.word_types import unknown_types_with

    several = SeveralSentences()
    with opened(file, twice=over_types) as source:
        predictor, types = predictor_called(model), None
        if over_types:
            start = source.tell()
            words = (tokens for lines in parts_of(source, file) for tokens in predictor.tokens(lines))
            types = unknown_types_with(unknown_types_for(predictor), predictor.vocabulary, words)
            source.seek(start)
        surprisal = surprisal_of_words if per_word else surprisal_of_lines
        if per_word and not as_json:
            print("\t".join(Word._fields))
        print_rows("score", surprisal(predictor, several.looking(parts_of(source, file)), types), as_json)
    if remark := several.remark():
        print(remark, file=sys.stderr)


@app.command()
def suggest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the text so far")],
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of words")] = 5,
) -> None:
    """Suggest the next word: print words and probabilities, tab-separated, the likeliest first."""
    predictor = predictor_called(model)
    (words,) = predictor.suggest(predictor.tokens([text]), count)
    for word, probability in words:
        print(f"{word}\t{probability:.4f}")


@app.command()
def serve(
    model: Annotated[str, typer.Option("--model", help="as of `rnnlm generate`")] = "champion",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5001,
) -> None:
    """Serve a model over HTTP on this machine, within limits (docs/serving.md), until Ctrl-C.

    The champion, or challenger, is followed: after a promotion or a rollback, the other model answers.
    """
    from pipeline.inference.server import Content, serve
    from pipeline.review.names import follower

    def content(saved: "SavedModel") -> Content:
        with suppress(InputError):  # a server needs no corpus, unless somebody asks for what is told of its words
            return saved, unknown_types_for(saved)
        return saved, None

    if model not in ("champion", "challenger"):
        serve(content(saved_model_called(model)), port)
        return
    enter_project()
    newer = follower(model)

    def other() -> Content | None:
        saved = newer()
        return saved and content(saved)

    first = other()
    assert first is not None  # the first call gives the one to begin with
    serve(first, port, other)
