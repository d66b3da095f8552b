"""report: the evaluations of all cells and of the baselines -> data/report/."""

from pipeline.evaluation.report import write_report
from pipeline.params import load_params
from pipeline.review.challenger import log_challenger
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.paths import EVALUATION, MODELS, REPORT
from pipeline.runtime.remarks import read_remarks
from pipeline.runtime.stage import run_stage
from pipeline.tracking.runs import log_report


def report() -> None:
    """Write data/report/: report.md and its figures."""
    warn_if_not_exact()
    params = load_params()
    names, options = list(params.cells), params.evaluate
    drawn, together = (options.bootstrap_samples, options.seed), params.download.together
    write_report(EVALUATION, MODELS, names, REPORT, *drawn, together, read_remarks())
    log_report(names)
    log_challenger(names)


if __name__ == "__main__":
    run_stage(report)
