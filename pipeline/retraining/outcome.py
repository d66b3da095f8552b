"""What a retraining leaves for people and programs: report.md with its figures, summary.md without, retrain.json."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.evaluation.adapted_rows import with_adapted
from pipeline.evaluation.results import comparison_table, table_cells
from pipeline.provenance.dvc import in_words
from pipeline.retraining.branch import short
from pipeline.review.conditions import Gate
from pipeline.runtime.files import write_text
from pipeline.runtime.markdown import code, markdown_table, quoted
from pipeline.runtime.paths import EVALUATION, MODELS, REPORT

Outcome = Literal["promoted", "kept", "unchanged", "trained", "failed"]
REPORT_FILE, SUMMARY_FILE, JSON_FILE = "report.md", "summary.md", "retrain.json"
PICTURES = {
    "learning_curves.png": "Validation perplexity after each epoch",
    "perplexity_by_band.png": "Test perplexity by frequency band",
    "gradient_flow.png": "Norm of the gradient k words back",
}
HEADLINES = {
    "promoted": "promoted",
    "kept": "not promoted",
    "unchanged": "nothing to do",
    "trained": "trained, nothing to promote it to",
    "failed": "failed",
}


@dataclass(frozen=True)
class Judgement:
    """The verdict and what it rests on.

    Attributes:
        verdict: `promoted`; `kept`: the champion stays; `unchanged`: nothing to do; `trained`: without MLflow there is
            no champion; `failed`.
        reasons: sentences.
        champion_before: version; None where there was none; likewise those after and of the challenger.
        cell: of the challenger.
        metrics: of `challenger` and `champion`, with intervals; the champion's as of when it was registered.
        test: champion (A) against challenger (B) on the same sentences.
        gates: conditions of the promotion.
    """

    verdict: Outcome = "failed"
    reasons: list[str] = field(default_factory=list)
    champion_before: str | None = None
    champion_after: str | None = None
    challenger: str | None = None
    cell: str | None = None
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    test: dict[str, Any] | None = None
    gates: tuple[Gate, ...] = ()

    @property
    def headline(self) -> str:
        """The outcome, in a few words."""
        if self.verdict == "promoted":
            place = f" in place of v{self.champion_before}" if self.champion_before else ""
            return f"v{self.challenger} promoted{place}"
        if self.verdict == "kept" and self.champion_after:
            return f"not promoted, v{self.champion_after} stays champion"
        return HEADLINES[self.verdict]


@dataclass
class Retraining:
    """What is known of a retraining; filled in step by step, so that one that fails can say how far it came.

    Attributes:
        branch: that its results are on.
        changes: what was out of date, by kind.
        ran: stages that ran.
        restored: stages whose results came from the cache.
        warm_start: what training runs began with, where that is asked for and anything was out of date.
        trigger: the commit that was checked out.
        before: the branch's tip before.
        after: its tip now.
        pushed: whether the remote has that.
    """

    branch: str
    changes: dict[str, list[str]] = field(default_factory=dict)
    ran: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    warm_start: str | None = None
    trigger: str | None = None
    before: str | None = None
    after: str | None = None
    pushed: bool = False
    judgement: Judgement = field(default_factory=Judgement)

    def as_json(self) -> dict[str, Any]:
        """All of it on one level, for retrain.json."""
        fields = dataclasses.asdict(self)
        judgement = fields.pop("judgement")
        return {"headline": self.judgement.headline, "branch": self.branch} | judgement | fields


def write_reports(result: Retraining, folder: Path, cells: Sequence[str]) -> None:
    """Write report.md, its figures, summary.md and retrain.json; in GitHub Actions, the step's outputs and summary too.

    Args:
        result: what to report.
        folder: made where it is missing; reports of an earlier retraining go.
        cells: the names of the models of data/; none where they are not those of this retraining.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_reports(folder)
    figures = ""
    for name, title in PICTURES.items() if cells and (result.ran or result.restored) else ():
        if (REPORT / name).is_file():
            shutil.copyfile(REPORT / name, folder / name)
            figures += f"\n![{title}]({name})\n"
    summary = _markdown(result, cells)
    write_text(folder / REPORT_FILE, summary + ("\n## Figures\n" + figures if figures else ""))
    write_text(folder / SUMMARY_FILE, summary)
    write_text(folder / JSON_FILE, json.dumps(_finite(result.as_json()), indent=1, allow_nan=False) + "\n")
    judgement = result.judgement
    outputs = {
        "verdict": judgement.verdict,
        "headline": judgement.headline,
        "champion": judgement.champion_after or "",
        "challenger": judgement.challenger or "",
        "report": str(folder / REPORT_FILE),
    }
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))
    _append("GITHUB_STEP_SUMMARY", summary)


def remove_reports(folder: Path) -> None:
    """Remove what `write_reports` left in a folder."""
    for name in (REPORT_FILE, SUMMARY_FILE, JSON_FILE, *PICTURES):
        (folder / name).unlink(missing_ok=True)


def _markdown(result: Retraining, cells: Sequence[str]) -> str:
    judgement = result.judgement
    # Reasons and names come from elsewhere, too: from errors, from servers, from files.
    parts = [f"# Retraining: {judgement.headline}", *map(quoted, judgement.reasons)]
    if judgement.challenger and judgement.verdict in ("promoted", "kept"):
        parts += [_comparison(judgement), *map(quoted, judgement.test["remarks"] if judgement.test else [])]
    elif judgement.gates:
        parts.append(_gates(judgement.gates))
    moves = [f"triggered by `{short(result.trigger)}`"] if result.trigger else []
    if result.before:
        moves.append(f"before it, {code(result.branch)} was at `{short(result.before)}`")
    if result.after:
        moves.append(f"now at `{short(result.after)}`, {'pushed' if result.pushed else 'not pushed'}")
    lines = [
        f"- Out of date: {quoted(in_words(result.changes))}",
        *([f"- Training runs began {quoted(result.warm_start)}"] if result.warm_start else []),
        f"- Stages that ran: {quoted(', '.join(result.ran) or 'none')}",
        f"- Stages restored from the cache: {quoted(', '.join(result.restored) or 'none')}",
        f"- Commits: {'; '.join(moves) or 'none'}",
    ]
    parts += ["## What changed", "\n".join(lines)]
    if cells:
        rows = table_cells(with_adapted(comparison_table(EVALUATION, MODELS, cells)))
        parts += ["## All models", markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def _comparison(judgement: Judgement) -> str:
    challenger, champion = judgement.metrics.get("challenger", {}), judgement.metrics.get("champion", {})
    before = f"champion v{judgement.champion_before}" if judgement.champion_before else "no champion"
    rows = [["", before, f"challenger v{judgement.challenger} ({judgement.cell})"]]
    test = judgement.test
    if test is not None:
        rows += [
            [
                f"perplexity on the same {test['sentences']:,} test sentences, unknown words counted one by one",
                f"{test['perplexity_a']:.2f}",
                f"{test['perplexity_b']:.2f}",
            ],
            ["that of the challenger, divided", "1", _interval(test, "ratio", ".3f")],
            [
                "which of these two models is better",
                "",
                {"A": "champion", "B": "challenger"}.get(test["better"], "cannot be told"),
            ],
        ]
    rows += [
        [
            "test perplexity, each as it was first measured",
            _interval(champion, "perplexity", ".2f"),
            _interval(challenger, "perplexity", ".2f"),
        ],
        ["unknown words", "", _interval(challenger, "unknown_share", ".2%")],
        ["next word right", _interval(champion, "accuracy_top1", ".1%"), _interval(challenger, "accuracy_top1", ".1%")],
    ]
    return f"{markdown_table(rows)}\n\n{_gates(judgement.gates)}"


def _gates(gates: Sequence[Gate]) -> str:
    return markdown_table(
        [
            ["condition", "met", "why"],
            *([gate.name, "yes" if gate.passed else "**no**", quoted(gate.reason)] for gate in gates),
        ]
    )


def _interval(metrics: Mapping[str, Any], key: str, form: str) -> str:
    """A figure with its 95% interval, where they are known."""
    if key not in metrics:
        return ""
    ends = [metrics.get(f"{key}_{end}") for end in ("low", "high")]
    figure = f"{metrics[key]:{form}}"
    return figure if None in ends else f"{figure} ({ends[0]:{form}} to {ends[1]:{form}})"


def _finite(value: Any) -> Any:
    """`value` with None for each number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
