"""report.md and its figures: what the models reached, for people."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.evaluation import figures, results
from pipeline.evaluation.adapted_rows import chosen_in_words, with_adapted
from pipeline.evaluation.bands import ALL_WORDS, RelativeBand, relative_bands, write_relative_bands
from pipeline.evaluation.bootstrap import for_verdicts
from pipeline.evaluation.matrix import Matrix, compare_all, listed
from pipeline.evaluation.page_inputs import Compared
from pipeline.runtime.files import write_text
from pipeline.runtime.markdown import markdown_table, plain, quoted
from pipeline.runtime.remarks import Remarks
from pipeline.training.history import read_history

REFERENCE = results.BASELINES["fivegram"]  # what the figure of frequency bands measures models against
LAG_TOLD = 10  # words back at which the report says how much of the gradient is left

WITHOUT_DOCUMENTS = (
    "This corpus has no documents, so intervals and tests draw its sentences one by one. Where sentences hang "
    "together, as those of one text do, that is too narrow: differences are less sure than they look here."
)

ABOUT_ADAPTED = (
    "Rows with a + are models adapted to the text that they read, none of which sees what follows; what is chosen for "
    "that was chosen on the validation split:"
)


def write_report(
    evaluation_folder: Path,
    models_folder: Path,
    names: Sequence[str],
    report_folder: Path,
    resamples: int,
    seed: int,
    together: str | None = None,
    remarks: Mapping[str, Remarks] | None = None,
) -> Compared:
    """Write report.md, pairs.csv, bands.csv, learning_curves.png, perplexity_by_band.png and gradient_flow.png.

    Returns what the page, index.html, needs of that.

    Args:
        evaluation_folder: holds what `evaluate` left for every name, and baselines/.
        models_folder: holds NAME/history.csv.
        names: of the networks, at least one; they stand in this order everywhere.
        report_folder: where the files go.
        resamples: of the test documents, at least; paired tests take more.
        seed: of the resampling.
        together: which documents count as one, in a sentence; None: each is by itself.
        remarks: what each stage said of the corpus, by its name.

    Raises:
        InputError: a file is missing or damaged.
    """
    rows = results.comparison_table(evaluation_folder, models_folder, names)
    histories = {name: read_history(models_folder / name / "history.csv") for name in names}
    figures.learning_curves(report_folder / "learning_curves.png", histories)
    norms = {name: _norms(evaluation_folder / name / "gradient_flow.csv") for name in names}
    figures.gradient_flow(report_folder / "gradient_flow.png", norms)
    samples = {name: results.read_result(evaluation_folder / name / "samples.txt").split("\n")[:-1] for name in names}
    for name, texts in samples.items():
        if len(texts) != len(samples[names[0]]):
            raise results.damaged(
                evaluation_folder / name / "samples.txt", "not as many sentences as those of other models"
            )
    scores = results.read_scores(evaluation_folder, names)
    bands = relative_bands(scores, REFERENCE, resamples, seed)
    write_relative_bands(report_folder / "bands.csv", bands)
    figures.perplexity_by_band(
        report_folder / "perplexity_by_band.png", bands, REFERENCE, names, [results.BASELINES["trigram"]]
    )
    one = scores[names[0]]
    nats = {model: of_model.nats for model, of_model in scores.items()}
    of_tests = for_verdicts(resamples, one.tokens, one.document)
    matrix = compare_all(nats, one.tokens, one.document, of_tests, seed)
    matrix.write(report_folder / "pairs.csv")
    recipes = results.recipe_tests(evaluation_folder, rows, resamples, seed)
    write_text(
        report_folder / "report.md", _markdown(rows, matrix, recipes, bands, samples, norms, together, remarks or {})
    )
    folders, drawn = (evaluation_folder, models_folder), (resamples, seed)
    return Compared(*folders, rows, histories, scores, matrix, bands, norms, samples, *drawn, REFERENCE)


class _Lag(NamedTuple):
    """One row of gradient_flow.csv."""

    lag: int
    gradient_norm: float


def _norms(path: Path) -> list[float]:
    norms = [row.gradient_norm for row in results.read_table(path, _Lag)]
    if norms[0] == 0 or not all(0 <= norm < math.inf for norm in norms):
        raise results.damaged(path, "no gradient that can be shown")
    return norms


def _markdown(
    rows: Sequence[results.Row],
    matrix: Matrix,
    recipes: Sequence[str],
    bands: dict[str, list[RelativeBand]],
    samples: dict[str, list[str]],
    norms: dict[str, list[float]],
    together: str | None,
    remarks: Mapping[str, Remarks],
) -> str:
    networks = rows[len(results.BASELINES) :]
    counted = networks[0].metrics
    best = next(row for row in networks if row.best)
    over_seeds, adapted = results.seed_cells(with_adapted(networks)), chosen_in_words(networks)
    parts = [
        "# Language models compared",
        *filter(None, [results.counting_is_better(rows, matrix)]),
        *(f"**Warning** ({stage}): {quoted(told)}" for stage, said in remarks.items() for told in said.warnings),
        f"All models predicted the same {counted['tokens']:,} tokens of {counted['sentences']:,} test sentences "
        f"(SENTENCE_END counted, SENTENCE_START not); {counted['unknown_share']:.1%} of them are UNKNOWN_TOKEN. "
        "Perplexity is e to the mean of -ln P(token), lower is better. "
        "Unigram, trigram and 5-gram only count words (modified Kneser-Ney).",
        results.about_unseen(counted),
        *filter(None, [together, WITHOUT_DOCUMENTS if matrix.documents is None else None]),
        markdown_table(results.table_cells(with_adapted(rows)), right=True),
        *([ABOUT_ADAPTED, "\n".join(f"- {line}" for line in adapted)] if adapted else []),
        results.about_seeds(rows),
        *([markdown_table(over_seeds, right=True)] if over_seeds else []),
        f"Of {len(networks)} trained, **{best.model}** has the lowest perplexity on the validation split, which alone "
        "decides; the test split is only reported."
        if len(networks) > 1
        else f"**{best.model}** is the only network trained.",
        *_longer(networks),
        *_which_is_better(matrix, [row.model for row in networks]),
        *(["That compares these models. As recipes, over seeds and documents:"] if recipes else []),
        *(["\n".join(f"- {said}" for said in recipes)] if recipes else []),
        *_corpus(remarks),
        "## Learning curves",
        "![Validation perplexity after each epoch](learning_curves.png)",
        "## Perplexity by word frequency",
        f"Which words the models predict better than the {REFERENCE} does, by how often the word occurs in the "
        "training text (rank 1 is the most frequent word): how much more or less the perplexity over these words is. "
        "Each 95% interval stands for itself, uncorrected.",
        f"![Test perplexity by frequency band, relative to the {REFERENCE}](perplexity_by_band.png)",
        "The perplexities themselves; `bands.csv` has intervals of the ratios:",
        markdown_table(_band_table(bands), right=True),
        "## Gradient flow",
        f"How strongly the loss at a word still depends on the network's state k words earlier, k = 0 to "
        f"{len(norms[networks[0].model]) - 1}: the faster the curve falls, the less the network can learn from words "
        f"further back. The state is all that a network hands on, of an LSTM s and c; at the word itself, k = 0, it is "
        f"what the output layer reads, of an LSTM s alone. {_left(norms)}",
        "![Norm of the gradient k words back](gradient_flow.png)",
    ]
    if any(samples.values()):
        lines = [[plain(text) for text in line] for line in zip(*samples.values(), strict=True)]
        parts += ["## Sentences the networks wrote", markdown_table([list(samples), *lines])]
    return "\n\n".join(parts) + "\n"


def _corpus(remarks: Mapping[str, Remarks]) -> Iterator[str]:
    lines = [f"- {stage}: {line}" for stage, said in remarks.items() for line in said.lines()]
    if lines:
        yield "## The corpus"
        yield "What became of all that was read:"
        yield "\n".join(lines)


def _longer(networks: Sequence[results.Row]) -> Iterator[str]:
    lines = [f"- {row.model}: {row.remark}." for row in networks if row.remark]
    if lines:
        yield "What longer training may give (`train.epochs` in `params.yaml`):"
        yield "\n".join(lines)


def _band_table(bands: dict[str, list[RelativeBand]]) -> list[list[str]]:
    models = [row.model for row in bands[ALL_WORDS]]
    rows = [
        [model, *(f"{found[number].perplexity:,.1f}" for found in bands.values())]
        for number, model in enumerate(models)
    ]
    return [["model", *bands], *rows]


def _which_is_better(matrix: Matrix, networks: Sequence[str]) -> Iterator[str]:
    yield "## Which model is better"
    yield matrix.about()
    if matrix.pairs:
        yield "\n".join(f"- {said}" for said in matrix.sentences())
        poor = [name for name in networks if not all(matrix.beats(name, shown) for shown in results.BASELINES.values())]
        if poor:
            yield (
                f"Not shown to beat every model that counts words: {listed(poor)}. A network that does not is not "
                "worth its training."
            )
        yield (
            "How much lower or higher the perplexity of each row is than that of the column of that number; bold: the "
            "two can be told apart. `pairs.csv` has intervals and p-values."
        )
        yield markdown_table(matrix.table(), right=True)


def _left(norms: dict[str, list[float]]) -> str:
    """What is left of each network's gradient some words back, in words, the most first."""
    lag = min(LAG_TOLD, *(len(values) - 1 for values in norms.values()))
    left = {name: values[lag] / values[0] for name, values in norms.items()}
    told = [f"{share:.2g} in {name}" for name, share in sorted(left.items(), key=lambda item: -item[1])]
    words = "1 word" if lag == 1 else f"{lag} words"
    return f"Relative to the word itself the gradient {words} back is {', '.join(told)}."
