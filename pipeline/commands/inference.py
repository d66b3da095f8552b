"""Commands that use a model: what it writes, what it says of texts, and its server."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.common import (
    JsonLinesOption,
    JsonOption,
    ModelOption,
    best_model,
    enter_project,
    examples,
    models_here,
    predictor_called,
    print_json,
    print_rows,
    saved_model_called,
    unknown_types_for,
)
from pipeline.runtime.errors import InputError

if TYPE_CHECKING:
    from io import BufferedIOBase

    from pipeline.inference.predictor import Predictor
    from pipeline.model.folder import SavedModel

app = typer.Typer()
OverTypesOption = Annotated[
    bool,
    typer.Option("--over-types", help="share the probability of unknown words among those of the corpus and FILE"),
]
LARGEST = 1e6  # temperature or weight: so no score overflows, and infinity is refused as other numbers out of range
MOST_LINES = 10_000  # that are read for a page: it shows far fewer


@app.command(
    epilog=examples(
        "rnnlm generate --count 5",
        "rnnlm generate --prompt 'The function' --prompt 'Return the' --count 3",
        "rnnlm generate --top-p 0.9 --temperature 0.8 --max-length 20 --seed 7",
        "rnnlm generate --model data/models/lstm --max-length 100 --json",
    )
)
def generate(
    model: ModelOption = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="how sentences begin; may be given several times", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="number of sentences, of each beginning")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="equal seeds write equal sentences")] = 1,
    temperature: Annotated[float, typer.Option(min=1e-6, max=LARGEST, help="below 1 favours likely words")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw only from the k likeliest words")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=1e-6, max=1, help="and only from the likeliest with this probability together")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="in words; default: evaluate.max_length")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Generate sentences, one per line."""
    from pipeline.inference.generation import Decoding, readable

    predictor = predictor_called(model)
    try:
        decoding = Decoding(temperature, top_k, max_length or enter_project().evaluate.max_length, seed, top_p)
    except InputError as error:  # the folder of a model needs no project around it
        raise InputError(f"{error}, or give --max-length") from None
    prompts = prompt or [""]
    for beginning, sentences in zip(
        prompts, predictor.generate(predictor.tokens(prompts), count, decoding), strict=True
    ):
        for tokens in sentences:
            told = {"prompt": beginning, "sentence": readable(tokens), "tokens": tokens}
            print(json.dumps(told) if as_json else told["sentence"])


@app.command(
    epilog=examples(
        "rnnlm score sentences.txt",
        "tail -f comments.txt | rnnlm score - --model lstm",
        "rnnlm score stimuli.txt --per-word > surprisal.tsv",
        "rnnlm score sentences.txt --json",
        "rnnlm score ptb.test.txt --tokenized",
        "rnnlm score sentences.txt --html words.html",
    )
)
def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="UTF-8, one sentence per line; - for standard input")],
    model: ModelOption = None,
    per_word: Annotated[
        bool,
        typer.Option("--per-word", help="a row for each token: line, word, text, token, nats, bits, rank, unknown"),
    ] = False,
    over_types: OverTypesOption = False,
    tokenized: Annotated[
        bool, typer.Option("--tokenized", help="tokens stand between spaces in FILE, and stay as they are")
    ] = False,
    as_json: JsonLinesOption = False,
    html: Annotated[
        Path | None,
        typer.Option(help="write a page that shows each word as all models saw it, or that of --model, not figures"),
    ] = None,
) -> None:
    """Score sentences: print each line's natural-log probability, its tokens, counting the end, and how many of these
    are words that the model does not know; tab-separated.

    All unknown words have one probability together, unless --over-types: then a line is charged for naming them.
    Lines are answered as they come.
    """
    from pipeline.inference.lines import OddLines, opened, parts_of
    from pipeline.inference.surprisal import Word, surprisal_of_lines, surprisal_of_words

    if html is not None:
        if per_word or over_types or tokenized or as_json:
            raise InputError(
                "--html goes with --model alone; leave out --per-word, --over-types, --tokenized and --json"
            )
        _write_html(html.absolute(), file, model)
        return
    odd = OddLines()
    with opened(file, twice=over_types) as (source, name):
        predictor = predictor_called(model)
        types = _types(predictor, source, parts_of(source, name, tokenized), tokenized) if over_types else None
        surprisal = surprisal_of_words if per_word else surprisal_of_lines
        if per_word and not as_json:
            print("\t".join(Word._fields))
        parts = parts_of(source, name, tokenized)
        rows = surprisal(predictor, parts if tokenized else odd.looking(parts), types, tokenized)
        print_rows("score", rows, as_json)
    if remark := odd.remark():
        print(remark, file=sys.stderr)


@app.command(
    epilog=examples("rnnlm suggest 'The function returns the'", "rnnlm suggest 'The function' --count 3 --json")
)
def suggest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the text so far")],
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of words")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Suggest the next word: print words and probabilities, tab-separated, the likeliest first."""
    predictor = predictor_called(model)
    (words,) = predictor.suggest(predictor.tokens([text]), count)
    _show_words("probability", words, as_json)


@app.command(epilog=examples("rnnlm neighbours array", "rnnlm neighbours returns --count 20 --model lstm"))
def neighbours(
    word: Annotated[str, typer.Argument(metavar="WORD", help="one that the model knows")],
    model: ModelOption = None,
    count: Annotated[int, typer.Option(min=1, help="number of words")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the words that the model reads most alike: print words and cosines, tab-separated, the nearest first."""
    from pipeline.inference.neighbours import neighbours

    _show_words("similarity", neighbours(predictor_called(model), word, count), as_json)


@app.command(
    epilog=examples("rnnlm rescore nbest.txt --weight 0.5 > rescored.txt", "decode | rnnlm rescore - --weight 1 --json")
)
def rescore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="an n-best list; - for standard input")],
    weight: Annotated[
        float, typer.Option(min=0, max=LARGEST, help="of the model's log probability beside the list's score")
    ],
    model: ModelOption = None,
    over_types: OverTypesOption = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Rescore n-best lists in the format of Moses: `ID ||| hypothesis ||| features ||| score`.

    Hypotheses of an ID are sorted by score + weight * ln P, the new score. With weight 0 all keep their order.
    """
    from pipeline.inference.lines import opened, parts_of
    from pipeline.inference.nbest import hypotheses_of, rescored

    with opened(file, twice=over_types) as (source, name):
        predictor, types = predictor_called(model), None
        if over_types:
            read = hypotheses_of(parts_of(source, name), name)
            types = _types(predictor, source, ([hypothesis.text for hypothesis in part] for part in read))
        print_rows("rescore", rescored(predictor, parts_of(source, name), weight, name, types), as_json)


@app.command(epilog=examples("rnnlm play", "rnnlm play --model lstm"))
def play(model: ModelOption = None) -> None:
    """Type a text and see the next words with their probabilities; Up and Down switch models."""
    from pipeline.inference.play import play

    if not is_terminal():
        raise InputError("`rnnlm play` needs a terminal; `rnnlm suggest TEXT` prints the next words anywhere")
    name = model or best_model()
    first = predictor_called(name)  # what is wrong with it is said before the screen changes
    others = [other for other in models_here() if other != name]
    play([name, *others], lambda other: first if other == name else predictor_called(other))


@app.command(epilog=examples("rnnlm serve", "rnnlm serve --model lstm --port 5002"))
def serve(
    model: Annotated[str, typer.Option("--model", help="as for `rnnlm generate`")] = "champion",
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
        return None if saved is None else content(saved)

    first = other()
    assert first is not None  # the first call gives the one to begin with
    serve(first, port, other)


def is_terminal() -> bool:
    """Whether somebody types and sees."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _types(
    predictor: "Predictor", source: "BufferedIOBase", parts: Iterable[list[str]], tokenized: bool = False
) -> int:
    """Word types of the corpus and of the lines of `source` that the model does not know; it is read, and sought."""
    from pipeline.inference.word_types import unknown_types_with

    start = source.tell()
    words = (tokens for lines in parts for tokens in predictor.tokens(lines, tokenized))
    types = unknown_types_with(unknown_types_for(predictor), predictor.vocabulary, words)
    source.seek(start)
    return types


def _show_words(figure: str, words: Sequence[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        print_json([{"word": word, figure: value} for word, value in words])
    else:
        print("\n".join(f"{word}\t{value:.4f}" for word, value in words))


def _write_html(path: Path, file: str, model: str | None) -> None:
    from pipeline.inference.lines import opened, parts_of
    from pipeline.inference.predictor import Predictor
    from pipeline.inference.word_page import write_word_page
    from pipeline.model.folder import load_model
    from pipeline.runtime.paths import CONFIG_FILE, MODELS

    with opened(file) as (source, name):
        read = (line for part in parts_of(source, name) for line in part)
        lines, is_cut = list(islice(read, MOST_LINES)), next(read, None) is not None
    if model is None:
        cells = [name for name in enter_project().cells if (MODELS / name / CONFIG_FILE).exists()]
        if not cells:
            raise InputError("no model is trained yet; run `dvc repro`")
        models = {name: Predictor(load_model(MODELS / name)) for name in cells}
    else:
        models = {model: predictor_called(model)}
    left = write_word_page(path, lines, models, name)
    print(path)
    if left:
        print(left, file=sys.stderr)
    if is_cut:
        print(f"of {name} only the first {MOST_LINES:,} lines were read", file=sys.stderr)
