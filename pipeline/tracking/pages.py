"""What MLflow's pages show: a run's name, parameters, metrics and text; the experiment's text."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.params import JOINT
from pipeline.evaluation.recipes import SEED_COUNT, SEED_NATS_SD
from pipeline.evaluation.results import about_intervals
from pipeline.evaluation.scores import (
    ADAPTED,
    EFFECTIVE_DOCUMENTS,
    EFFECTIVE_SENTENCES,
    ENDS,
    MEASURES,
    SEED_FIGURES,
    UNSEEN,
)
from pipeline.params import CellParams, flat
from pipeline.runtime.markdown import quoted
from pipeline.runtime.remarks import Remarks
from pipeline.runtime.urls import shown
from pipeline.tracking.store import COMMIT
from pipeline.training.history import EpochRecord, best_epoch, remark

if TYPE_CHECKING:
    from mlflow.entities import Run

SAMPLES_SHOWN = 5
AUTO = "auto"  # a tag of runs: what was `auto` in params.yaml, and what it came to


def run_name(cell: CellParams, epochs: int | str, corpus: str) -> str:
    """Such as `lstm, 100 units, 3 epochs, ptb, seed 1`, or `wide (lstm), 2 x 256 units, 1 epoch, ptb, seed 2`."""
    name = cell.name if cell.name == cell.model.cell else f"{cell.name} ({cell.model.cell})"
    model = cell.model
    same = f"{model.hidden_size}" if model.layers == 1 else f"{model.layers} x {model.hidden_size}"
    units = same if model.lower_sizes is None else " + ".join(map(str, model.sizes))
    count = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    return f"{name}, {units} units, {count}, {corpus}, seed {cell.train.seed}"


def cell_params(cell: CellParams, vocabulary_size: int) -> dict[str, str]:
    """What params.yaml says of the cell, `SECTION.KEY` each, values written as there."""
    sections = {"model": cell.model.model_dump(), "train": cell.train.model_dump()}
    values = flat(sections | {"vocabulary": {"size": vocabulary_size}})
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def corpus_name(source: str, path: str) -> str:
    """The corpus's name, by these keys of section `download`: its source, or the file or folder it comes from."""
    # A URL's query may hold a token.
    return source if source != "files" else PurePosixPath(shown(path)).name


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """The points of one epoch; losses are in nats a token (the one of training may be a sampled stand-in)."""
    return {
        "train/loss": record.train_nats,
        "train/learning_rate": record.learning_rate,
        "valid/loss": record.valid_nats,
        "valid/perplexity": record.valid_perplexity,
    }


def evaluation_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """The figures of metrics.json: `test/KEY`; apart, `test_interval/KEY` and `test_adapted/NAME`."""
    optional = [key for key in (UNSEEN, SEED_COUNT, SEED_NATS_SD, *SEED_FIGURES) if key in metrics]
    named = {f"test/{key}": metrics[key] for key in (*MEASURES, *optional)}
    ends = (*ENDS, f"{UNSEEN}_low", f"{UNSEEN}_high", EFFECTIVE_DOCUMENTS, EFFECTIVE_SENTENCES)
    adapted: Any = metrics.get(ADAPTED, {})
    # MLflow allows no plus in a name.
    named |= {f"test_adapted/{name.replace(JOINT, '-')}": found["perplexity"] for name, found in adapted.items()}
    return named | {f"test_interval/{key}": metrics[key] for key in ends if key in metrics}


def test_figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of a run's metrics, those of metrics.json, by their keys there."""
    return {key.removeprefix("test/"): value for key, value in metrics.items() if key.startswith("test/")}


def training_note(
    run_id: str,
    cell: CellParams,
    parameter_count: int,
    history: Sequence[EpochRecord],
    tags: Mapping[str, str],
    remarks: Mapping[str, Remarks],
) -> str:
    """Markdown for a run whose model is trained but not evaluated; it has these tags, and stages said these remarks."""
    best, begun_with = best_epoch(history), tags.get("warm_start")
    note = (
        f"Validation perplexity **{best.valid_perplexity:.2f}** after epoch {best.epoch} of {len(history)}. "
        f"{cell.model.cell}, {cell.model.hidden_size} units, {parameter_count:,} parameters."
    )
    if chosen := tags.get(AUTO):
        note += f" Chosen for the size of the corpus: {chosen}."
    if remarked := remark(history):
        note += f" **Note**: {remarked}."
    if begun_with:
        whose = f"another model, whose run has the tag `model_digest` `{begun_with}`"
        note += (
            f" Training began with the weights of {whose}. Some test sentences may have been in the training split of "
            f"that one: `rnnlm show {run_id}` counts them."
        )
    if tags.get("git_dirty") == "true":
        files = tags.get("git_changed_files", "").replace("`", "'")
        note += f"\n\n**Made with uncommitted changes** (artifact `provenance/changes.patch`): `{files}`.\n"
    if missing := tags.get("git_left_out", "").replace("`", "'"):
        note += f"\n\n**The patch is incomplete**, it leaves out what is large or may be secret: `{missing}`.\n"
    for stage, said in remarks.items():
        note += "".join(f"\n\n**Warning** ({stage}): {quoted(told)}" for told in said.warnings)
    if corpus := "; ".join(line for said in remarks.values() for line in said.lines()):
        note += f"\n\nCorpus: {corpus}."
    return f"{note}\n\nIts exact data: `rnnlm data {run_id} FOLDER`; all of it again: `rnnlm reproduce {run_id}`.\n"


def evaluation_note(training: str, metrics: dict[str, float], samples: Sequence[str]) -> str:
    """Markdown for an evaluated run: the headline, what `training_note` said, and samples."""
    interval = about_intervals(metrics)
    if "perplexity_low" in metrics:
        interval += f": {metrics['perplexity_low']:.2f} to {metrics['perplexity_high']:.2f}"
    headline = f"Test perplexity **{metrics['perplexity']:.2f}** ({interval})."
    # Indented text is code in Markdown, so that nothing a model writes can be taken for markup.
    written = "\n".join(f"    {sample}" for sample in samples[:SAMPLES_SHOWN])
    return f"{headline} {training}\n\nIt writes:\n\n{written}\n" if written else f"{headline} {training}\n"


def about_run(run: "Run") -> dict[str, str]:
    """What a run's copy of the report says at its foot: which run, when it began, in UTC, and of which commit."""
    begun = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    terms = {"run in MLflow": f"{run.info.run_name}, {run.info.run_id}", "trained": f"{begun:%Y-%m-%d %H:%M} UTC"}
    return terms | ({"commit": run.data.tags[COMMIT]} if COMMIT in run.data.tags else {})


def with_report(note: str, address: str) -> str:
    """Markdown with a link to the report below its first paragraph: the description of a run, or of the experiment."""
    first, _, rest = note.partition("\n\n")
    return f"{first}\n\n[The whole report, with its figures]({address})\n\n{rest}"
