"""`rnnlm retrain`, step by step; docs/retraining.md says why in this order.

What a step leaves is whole, and named by later steps only: results are in DVC's remote before a commit names them, and
the commit is on the branch before its model can become champion. So a kill between any two leaves nothing that points
nowhere, and whoever comes next finds done what was done, and does the rest.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.params import Params, load_params
from pipeline.provenance import dvc
from pipeline.provenance.warm_start_file import write_digests
from pipeline.retraining import branch as git
from pipeline.retraining.champion import champion_files
from pipeline.retraining.outcome import REPORT_FILE, Judgement, Retraining, remove_reports, write_reports
from pipeline.review import gates as gate
from pipeline.review.challenger import bring_up_to_date
from pipeline.review.conditions import Gate, reasons
from pipeline.runtime.errors import InputError
from pipeline.runtime.locks import LOCKS
from pipeline.runtime.paths import MODELS
from pipeline.runtime.settings import be_patient_with_mlflow
from pipeline.runtime.stopping import raise_if_stopped, stopped_by_signals
from pipeline.tracking.store import CHAMPION, TRACKING_OFF, is_off, open_store

ATTEMPTS = 2  # to push, where other machines retrain too
CONTINUES = "the next retraining continues from here"
LOCK_LOOKED_SECONDS = 0.5  # between two looks at whether to wait on for a lock


def retrain(branch: str, output: Path, without_old_sentences: bool = False) -> Retraining:
    """Bring the model up to date, and promote it if it is better.

    Args:
        branch: of git, for the results; made where there is none.
        output: folder of the reports; those of an earlier retraining go first.
        without_old_sentences: promote also where the champion's test sentences cannot be had.

    Raises:
        InputError: a step fails; the reports say which one.
        StoppedError: SIGTERM, SIGHUP or Ctrl-C came; unless the verdict was carried out already, there is no report.
    """
    result = Retraining(branch)
    with stopped_by_signals(), _alone(), _way_back():
        remove_reports(output)
        be_patient_with_mlflow()
        try:
            git.check_clean()
            if not _no_mlflow():
                with open_store():
                    pass  # what it has to say, such as that it has moved, is said before hours of training
            params = _bring_up_to_date(result)
            result.judgement = _judge(result, params, without_old_sentences)
        except InputError as error:
            raise_if_stopped(CONTINUES)  # which may be why a command failed
            result.judgement = Judgement("failed", [f"{error}."])
            write_reports(result, output, [])
            raise
        print(f"report: {output / REPORT_FILE}", flush=True)
        write_reports(result, output, list(params.cells))
        print("verdict:", "\n  ".join([result.judgement.headline, *result.judgement.reasons]), flush=True)
        raise_if_stopped("its verdict was carried out before that")
    return result


def _bring_up_to_date(result: Retraining) -> Params:
    """From the commit that triggered to results that are committed and pushed."""
    result.trigger = git.head()
    remote, storage = git.remote_name(), dvc.has_remote()
    for _ in range(ATTEMPTS):
        _start(result, remote)
        params = load_params()
        _tell("dvc pull", "results from DVC's remote" if storage else "skipped, as DVC has no default remote")
        if storage:
            dvc.pull()
        # So that a comment in the code is not a reason to train.
        _tell("dvc repro pins", "what the code does, and with which libraries")
        dvc.repro(storage, {}, "pins")
        result.changes = dvc.out_of_date()
        _tell("dvc status", f"out of date: {dvc.in_words(result.changes)}")
        if result.changes:
            result.warm_start = _warm_start(params)
        _repro(result, storage, params)
        _tell("dvc push", "results to DVC's remote" if storage else "skipped, as DVC has no default remote")
        if storage:
            dvc.push()
        _tell("git commit", f"results to {result.branch}")
        if not git.commit_results(_message(result)):
            _tell("git commit", "nothing new")
        result.after = git.head()
        if remote is None:
            _tell("git push", "skipped, as git has no remote")
            return params
        _tell("git push", f"{result.branch} to {remote}")
        if git.push(remote, result.branch):
            result.pushed = True
            return params
        _tell("git push", "another retraining was faster; once more, from what it left")
    raise InputError(f"others pushed to {result.branch} {ATTEMPTS} times meanwhile; retrain again")


def _start(result: Retraining, remote: str | None) -> None:
    """Go to the branch, where it has the commit that triggered."""
    branch, trigger = result.branch, str(result.trigger)
    _tell("git fetch", f"{branch} from {remote}" if remote else "skipped, as git has no remote")
    if remote:
        git.fetch(remote, branch)
    start = git.merge(remote, branch, trigger)
    result.before = result.before or start.before
    merged = f", merged with {', '.join(map(git.short, start.merged))}" if start.merged else ""
    _tell("git merge", f"{branch} at {git.short(start.before or trigger)}{merged}; this checkout goes there")
    _tell_aside(git.check_out(branch, start.commit))
    # DVC would replace those that lie there, and `dvc repro` those of stages that run.
    _tell_aside(git.set_aside(dvc.unsaved_outputs()))


def _tell_aside(folder: Path | None) -> None:
    if folder:
        _tell("set aside", f"results that were in the way, and that nothing else holds, are in {folder}")


def _warm_start(params: Params) -> str | None:
    """Write down what training runs begin with, where something is out of date: a new champion alone is not a reason.

    Returns:
        It in words; None where nobody asks for a warm start.
    """
    told, digests = None, {}
    if params.retrain.warm_start and _no_mlflow():
        told = f"from random weights, as {_no_mlflow()}"
    elif params.retrain.warm_start:
        try:
            with open_store() as store:
                version, digests = champion_files(store, params)
            told = f"from the weights of champion v{version}, where the shapes agree"
        except InputError as error:
            told = f"from random weights: {error}"
    if told:
        _tell("warm start", told)
    write_digests(digests)
    return told


def _repro(result: Retraining, storage: bool, params: Params) -> None:
    """Run what is out of date, and push what takes long as soon as it is there: a machine may vanish at any moment."""
    if not result.changes:
        _tell("dvc repro", "skipped, as nothing is out of date")
        return
    _tell("dvc repro", "run what is out of date")
    environment = TRACKING_OFF if _no_mlflow() else {}
    steps = ["encode", *(f"train@{name}" for name in params.cells)] if storage else []
    ran, restored = len(result.ran), len(result.restored)
    for target in (*steps, None):
        done = dvc.repro(storage, environment, *([target] if target else []))
        # An attempt before this one has its part in it.
        result.ran, result.restored = result.ran + done.ran, result.restored + done.restored
        if target and done.ran:
            try:
                dvc.push()
                _tell("dvc push", f"what `{target}` needs and makes, before the rest")
            except InputError as error:
                _tell("dvc push", f"not yet: {error}; the push at the end tries again")
    ran, restored = len(result.ran) - ran, len(result.restored) - restored
    _tell("dvc repro", f"{ran} stages ran, {restored} came from the cache")


def _judge(result: Retraining, params: Params, without_old_sentences: bool) -> Judgement:
    """From results to a verdict, carried out."""
    found = gate.candidate(params)
    figures = {"challenger": found.metrics}
    if _no_mlflow():
        _tell("mlflow", f"skipped, as {_no_mlflow()}")
        return _judge_alone(result, found, params)
    _tell("mlflow", "runs, versions and the challenger")
    with open_store() as store:
        for line in bring_up_to_date(store):
            _tell("mlflow", line)
        champion = store.aliases().get(CHAMPION)
        version = gate.registered(store, found)
        settled = gate.judged_before(store, version, params)
        if settled:
            _tell("gate", "nothing to judge")
            return Judgement("unchanged", [settled], champion, champion, cell=found.cell, metrics=figures)
        _tell("gate", "challenger against champion, and the limits of params.yaml")
        speed = gate.scoring_speed(MODELS / found.cell)
        verdict = gate.judge(store, found, version, speed, params, without_old_sentences)
        figures["champion"] = gate.champion_figures(store, verdict.champion)
        _tell_gates(verdict.gates)
        _tell("promote", f"v{verdict.challenger}: {verdict.outcome}")
        gate.settle(store, verdict, params)
        return Judgement(
            verdict.outcome,
            reasons(verdict.gates),
            champion,
            store.aliases().get(CHAMPION),
            verdict.challenger,
            found.cell,
            figures,
            verdict.test.as_json() if verdict.test else None,
            verdict.gates,
        )


def _judge_alone(result: Retraining, found: gate.Candidate, params: Params) -> Judgement:
    """Without MLflow there is no champion: only the limits can be held."""
    figures = {"challenger": found.metrics}
    if not result.ran and not result.restored:
        return Judgement("unchanged", ["Nothing was out of date."], cell=found.cell, metrics=figures)
    _tell("gate", "the limits of params.yaml")
    gates = gate.limits(found.metrics, gate.scoring_speed(MODELS / found.cell), params.retrain)
    _tell_gates(gates)
    verdict = "trained" if all(item.passed for item in gates) else "kept"
    return Judgement(verdict, reasons(gates), cell=found.cell, metrics=figures, gates=gates)


def _tell_gates(gates: Sequence[Gate]) -> None:
    for item in gates:
        _tell("gate", f"{item.name}: {'met' if item.passed else 'not met'}. {item.reason}")


def _message(result: Retraining) -> str:
    what = f"out of date: {dvc.in_words(result.changes)}" if result.changes else "nothing was out of date"
    stages = ", ".join(result.ran) or "none"
    return f"Retrain at {git.short(str(result.trigger))}\n\n{what}\nstages that ran: {stages}\n"


def _no_mlflow() -> str:
    """Why this retraining goes without MLflow; empty if it does not."""
    # A CI machine's own database would vanish with it, and every model would be the first.
    if os.environ.get("CI") and not os.environ.get("MLFLOW_TRACKING_URI"):
        return "MLFLOW_TRACKING_URI names no server"
    return "RNNLM_TRACKING is off" if is_off() else ""


@contextmanager
def _alone() -> Iterator[None]:
    """One retraining at a time in a checkout: a second waits, and then finds nothing to do."""
    from filelock import FileLock, Timeout

    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / "retrain.lock")
    waits = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=LOCK_LOOKED_SECONDS if waits else 0)
        except Timeout:
            if not waits:
                _tell("lock", "another retraining works in this folder; waiting for its end")
            waits = True
            raise_if_stopped(CONTINUES)
    try:
        _tell("lock", "held")
        yield
    finally:
        lock.release()


@contextmanager
def _way_back() -> Iterator[None]:
    """Say at the end where the checkout is, and how to leave it, where it was elsewhere before."""
    before = git.position()
    try:
        yield
    finally:
        if before != (now := git.position()):
            back = f"`git checkout {before} && dvc checkout` goes back"
            print(f"branch: this checkout is on {now} now; {back}", flush=True)


def _tell(step: str, text: str) -> None:
    """Say that a step begins, or how it went; none begins after a signal."""
    print(f"{step}: {text}", flush=True)
    raise_if_stopped(CONTINUES)
