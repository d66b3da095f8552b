"""Commands that use a model: what it writes, what it says of texts, and its server."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import ModelOption, enter_project, predictor_called, saved_model_called, unknown_types_for
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


@app.command()
def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="UTF-8, one sentence per line; - for standard input")],
    model: ModelOption = None,
    over_types: Annotated[
        bool,
        typer.Option("--over-types", help="share the probability of unknown words among those of the corpus and FILE"),
    ] = False,
) -> None:
    """Score sentences: print each line's natural-log probability, its tokens, counting the end, and how many of these
    are words that the model does not know; tab-separated.

    All unknown words have one probability together, unless --over-types: then a line is charged for naming them.
    """
    from pipeline.evaluation.paired import nats_over_types
    from pipeline.inference.scoring import score_split, several_sentences
    from pipeline.inference.word_types import unknown_types_with

    lines = lines_of(file)
    predictor = predictor_called(model)
    sentences = predictor.tokens(lines)
    scores = score_split(predictor, predictor.encode(sentences), "score").sentences
    nats = scores.nats
    if over_types:
        types = unknown_types_with(unknown_types_for(predictor), predictor.vocabulary, sentences)
        nats = nats_over_types(nats, scores.unknown, types)
    for spent, tokens, unknown in zip(nats, scores.tokens, scores.unknown, strict=True):
        print(f"{-spent:.6f}\t{tokens}\t{unknown}")
    if remark := several_sentences(lines):
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


def lines_of(file: str) -> list[str]:
    """The lines of a file, or of standard input for `-`, without line ends."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is not a file; name one with a sentence per line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
