"""report: the evaluations of all cells and of the baselines -> data/report/, and their learning curves as a table."""

from pipeline.evaluation.page import write_page
from pipeline.evaluation.page_frame import PAGE_FILE
from pipeline.evaluation.report import write_report
from pipeline.params import load_params
from pipeline.review.challenger import log_challenger
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.paths import EVALUATION, LEARNING_CURVES, MODELS, REPORT, TOKENS
from pipeline.runtime.remarks import read_remarks
from pipeline.runtime.stage import run_stage
from pipeline.tracking.runs import log_report
from pipeline.training.history import HISTORY_FILE, read_history, write_curves


def report() -> None:
    """Write data/report/: report.md and its figures, index.html; and data/curves/history.csv."""
    warn_if_not_exact()
    params = load_params()
    names, options = list(params.cells), params.evaluate
    drawn, together = (options.bootstrap_samples, options.seed), params.download.together
    compared = write_report(EVALUATION, MODELS, names, REPORT, *drawn, together, read_remarks())
    write_page(REPORT / PAGE_FILE, compared, TOKENS, options.temperature)
    write_curves(LEARNING_CURVES / HISTORY_FILE, {name: read_history(MODELS / name / HISTORY_FILE) for name in names})
    log_report(names)
    log_challenger(names)


if __name__ == "__main__":
    run_stage(report)
