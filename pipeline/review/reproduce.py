"""Rebuild a run from its commit and the hashes of its data, and say whether the result is the same."""

import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.evaluation.agreement import FEWEST_SEEDS, agreement, is_one_model
from pipeline.evaluation.results import SENTENCES_FILE, SavedScores, read_metrics, scores_of
from pipeline.params import at, flat, read_params
from pipeline.provenance import git
from pipeline.provenance.code import changed, read_pins
from pipeline.provenance.dvc import StageRecord, digest_if_there, dvc_digest, repro_afresh, restore
from pipeline.provenance.environment import machine_params
from pipeline.provenance.warm_start_file import write_digests
from pipeline.review.comparison import runs_of_recipe
from pipeline.runtime.errors import InputError
from pipeline.runtime.locks import one_at_a_time
from pipeline.runtime.paths import EVALUATION, PINS, WARM_START
from pipeline.runtime.stopping import stopped_by_signals
from pipeline.runtime.urls import masked
from pipeline.text.sources.fetch import MIRROR
from pipeline.tracking.record import PATCH, Provenance, read_artifact, read_provenance
from pipeline.tracking.runs import MODEL_FOLDER
from pipeline.tracking.store import TRACKING_OFF, Store, is_own

if TYPE_CHECKING:
    from mlflow.entities import Run

Start = Literal["train", "download"]

REPRODUCTIONS = Path(".rnnlm/reproduce")
MACHINE = ("machine.", "env.")  # parameters of a run that name where it was made
STATUS = {"identical": 0, "equivalent": 10, "different": 11}  # of the command, by its verdict
FOREIGN = ("MLFLOW_", "DVC_", "RNNLM_")  # environment variables that would change what a stage does


@dataclass(frozen=True)
class Reproduction:
    """What rebuilding a run gave.

    Attributes:
        verdict: `identical`: every file has the recorded bytes; `equivalent`: not so, but where bytes may differ, and
            the model scores test sentences as the recorded one does; or `different`.
        stage: the first one whose inputs, parameters or outputs differ, if any.
        reasons: what differs, a line each.
        broken: what keeps the bytes from being the same on every machine, a line each.
        machine: parameters of the machine that differ: recorded, now.
        perplexity: of the test split: recorded, now; None if the run was not evaluated.
        agreement: what scores of sentences say of the two models, a line; None where bytes alone decide.
    """

    verdict: Literal["identical", "equivalent", "different"]
    stage: str | None = None
    reasons: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    machine: dict[str, tuple[str, str]] = field(default_factory=dict)
    perplexity: tuple[float, float] | None = None
    agreement: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields, for json.dumps."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As a person reads it, the verdict first."""
        if self.verdict == "identical":
            return ["identical: every file has the recorded bytes"]
        first = "equivalent" if self.verdict == "equivalent" else f"different, from stage {self.stage} on"
        if self.perplexity:
            then, now = self.perplexity
            first += f": test perplexity {then:.2f} then, {now:.2f} now"
        places = [f"{name}: {before} then, {after} now" for name, (before, after) in self.machine.items()]
        if not places and self.verdict == "equivalent":
            places = ["no known difference of machine or libraries"]
        return [first, *self.reasons, *self.broken, *([self.agreement] if self.agreement else []), *places]


def reproduce(store: Store, run: "Run", start: Start = "train", trust: bool = False) -> Reproduction:
    """Rebuild a run in a git worktree of its commit, without caches, checkpoints or MLflow, and compare.

    Args:
        run: a finished training run.
        start: `train` restores its recorded inputs by their hashes, from DVC's cache or remote; `download` makes all.
        trust: run the patch, which is code, also where somebody else may have written it.

    Raises:
        InputError: the patch is not trusted; the run, its commit or its data are not available; or a stage fails.
        StoppedError: SIGTERM, SIGHUP or Ctrl-C came.
    """
    provenance = _complete_provenance(store, run, start)
    if provenance.left_out:
        missing = ", ".join(provenance.left_out)
        told = f"the changes recorded of run {run.info.run_id} lack what was large or may be secret: {missing}"
        print(f"warning: {told}", file=sys.stderr, flush=True)
    cell = run.data.tags["cell"]
    alone = start == "train"
    models = ("train", "evaluate")
    rerun = {name: record for name, record in provenance.stages.items() if not alone or name in models}
    patch = read_artifact(store, run.info.run_id, PATCH)
    if patch and not trust and not is_own():
        raise InputError(
            f"run {run.info.run_id} changes code by a patch in an MLflow store that is not yours alone; read {PATCH} "
            "among its artifacts, and give --trust to run it"
        )
    # The commit goes with what runs in it, whatever ends that.
    with stopped_by_signals(), _laid_out(run, provenance, patch) as tree:
        environment = _environment(tree, _threads(run))
        if any(_pins(name) in record.deps for name, record in rerun.items()):
            # Made from the code in the worktree: files of pins from anywhere else would hide that it is other code.
            repro_afresh(tree, ["pins"], alone=True, environment=environment)
        stage, reasons = _other_inputs(tree, rerun)
        if stage:
            return Reproduction("different", stage, reasons)
        if alone:
            _restore_inputs(rerun.values(), tree)
        targets = [f"{name}@{cell}" for name in models if name in rerun]
        repro_afresh(tree, targets if alone else targets[-1:], alone, environment)
        return compared(store, run, rerun, tree)


def _complete_provenance(store: Store, run: "Run", start: Start) -> Provenance:
    """The run's record, checked that it is enough to rebuild the run."""
    name = run.info.run_id
    provenance = read_provenance(store, name)
    train = provenance.stages.get("train") if provenance else None
    if provenance is None or train is None:
        raise InputError(f"run {name} does not say what it was made from: an older version made it, or MLflow was down")
    if not train.outs:
        raise InputError(f"run {name} never finished training, so there is no result to rebuild")
    if provenance.incomplete:
        raise InputError(f"the record of run {name} is incomplete, so it cannot be rebuilt: {provenance.incomplete}")
    if provenance.commit is None:
        raise InputError(f"the commit of run {name} is unknown: its model was restored after the code had changed")
    if start == "download" and "download" not in provenance.stages:
        raise InputError(f"run {name} does not say what its text stages made; leave out `--from download`")
    if start == "download" and _began_with_a_model(train):
        raise InputError(f"run {name} began with the weights of another model, which no text makes; "
                         "leave out `--from download`")  # fmt: skip
    return provenance


def _began_with_a_model(train: StageRecord) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        write_digests({}, Path(folder))  # all that is there otherwise
        return train.deps.get(WARM_START.as_posix()) not in (None, dvc_digest(Path(folder)))


@contextmanager
def _laid_out(run: "Run", provenance: Provenance, patch: bytes | None) -> Iterator[Path]:
    """The run's commit with its patch, in a temporary worktree."""
    run_id, commit = run.info.run_id, str(provenance.commit)
    if git.commit_of(commit) is None:
        raise InputError(f"commit {commit} of run {run_id} is not in this clone; `git fetch` it")
    tree = (REPRODUCTIONS / run_id).resolve()
    taken = f"run {run_id} is already being rebuilt in this folder; wait until that has ended"
    with one_at_a_time(REPRODUCTIONS / f"{run_id}.lock", taken), git.worktree(tree, commit) as project:
        if patch:
            git.apply_changes(project, patch)
        yield project


def _other_inputs(tree: Path, records: Mapping[str, StageRecord]) -> tuple[str | None, list[str]]:
    """The first stage whose code or parameters in the worktree differ from the record, and what differs."""
    params = read_params(tree / "params.yaml")
    made = {path for record in records.values() for path in record.outs}
    for name, record in records.items():
        now = flat(masked({key: at(params, key) for key in record.params}))
        then = flat(record.params)
        reasons = [
            f"{key} in params.yaml is {now.get(key)}, the run had {then.get(key)}"
            for key in dict.fromkeys([*then, *now])
            if now.get(key) != then.get(key)
        ]
        for path, digest in record.deps.items():
            if path == _pins(name):
                other = digest_if_there(tree / path) != digest
                known = changed(record.code, read_pins(tree / path)) if other and record.code else []
                reasons += [f"{what} is not what the run used" for what in known or [path] * other]
            elif path not in made and (tree / path).exists() and not _has(tree, path, digest):
                reasons.append(f"{path} is not what the run read")
        if reasons:
            return name, reasons
    return None, []


def _pins(stage: str) -> str:
    """The file that stands for a stage's code among its `deps`; records of older versions have each module there."""
    return (PINS / f"{stage}.txt").as_posix()


def _has(tree: Path, path: str, digest: str | None) -> bool:
    """Whether the worktree has an input as the run read it; copied from here if git did not have it so."""
    here = Path(path)
    if here.parent != PINS and dvc_digest(tree / path) != digest and digest_if_there(here) == digest:
        # A corpus that git ignores, or a file that was too large for the patch.
        if here.is_dir():
            shutil.rmtree(tree / path)
            shutil.copytree(path, tree / path)
        else:
            shutil.copyfile(path, tree / path)
    return dvc_digest(tree / path) == digest


def _restore_inputs(records: Collection[StageRecord], tree: Path) -> None:
    """Restore what the stages read, and none of them makes, from DVC's cache or remote to the worktree."""
    made = {path for record in records for path in record.outs}
    wanted = {path: digest for record in records for path, digest in record.deps.items() if path not in made}
    for path, digest in wanted.items():
        if not (tree / path).exists():
            if digest is None:
                raise InputError(f"the run has no hash of {path}, so that it cannot be restored")
            restore(path, digest, tree / path)


def _environment(tree: Path, threads: str | None) -> dict[str, str]:
    """Variables for stages in the worktree, without those of this process that would change what they do."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN) or key == MIRROR}
    environment |= {**TRACKING_OFF, "PYTHONPATH": str(tree)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment | ({"OMP_NUM_THREADS": threads} if threads else {})


def _threads(run: "Run") -> str | None:
    """The run's number of threads, if this machine has as many."""
    threads = run.data.params.get("machine.threads")
    return threads if threads and int(threads) <= (os.cpu_count() or 1) else None


def compared(store: Store, run: "Run", records: Mapping[str, StageRecord], tree: Path) -> Reproduction:
    """Compare what the stages left in the worktree with what they read and wrote then.

    Args:
        store: has scores of the run's model, and of other seeds.
        run: the one that was made again.
        records: of the stages that ran again, by name, in their order.
        tree: where.
    """
    others: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, record in records.items():
        for path, digest in [*record.deps.items(), *record.outs.items()]:
            if path not in seen and digest_if_there(tree / path) != digest:
                others.setdefault(name, []).append(f"{path} has other bytes")
            seen.add(path)
    if not others:
        return Reproduction("identical")
    now = machine_params()
    if threads := _threads(run):
        now["machine.threads"] = threads
    machine = {
        key: (value, now[key])
        for key, value in run.data.params.items()
        if key.startswith(MACHINE) and key in now and now[key] != value and key != "machine.exact"
    }
    perplexity = None
    folder = run.data.tags.get(MODEL_FOLDER, run.data.tags["cell"])
    if "evaluate" in records and "test/perplexity" in run.data.metrics:
        measured = read_metrics(tree / EVALUATION / folder / "metrics.json")["perplexity"]
        perplexity = (run.data.metrics["test/perplexity"], measured)
    reasons = [reason for lines in others.values() for reason in lines]
    broken, same, told = _broken(run.data.params, now), False, None
    # Text stages give the same bytes everywhere, and so does training where nothing breaks that.
    if broken and perplexity and set(others) <= {"train", "evaluate"}:
        same, told = _is_the_same_model(store, run, tree / EVALUATION / folder / SENTENCES_FILE)
    verdict = "equivalent" if same else "different"
    return Reproduction(verdict, next(iter(others)), reasons, broken, machine, perplexity, told)


def _is_the_same_model(store: Store, run: "Run", rebuilt: Path) -> tuple[bool, str]:
    """Whether the rebuilt model's scores, in this file, are the recorded ones but for rounding; and why, in words."""
    untold, now = "whether it is the same model, rounded otherwise, cannot be told: MLflow has", scores_of(rebuilt)
    then = _recorded_scores(store, run)
    if then is None or not then.same_sentences(now):
        return False, f"{untold} no scores of its own of these test sentences"
    seed = run.data.params.get("train.seed")
    others = [other for other in runs_of_recipe(store, run) if other.data.params.get("train.seed") != seed]
    found = (scores for other in others if (scores := _recorded_scores(store, other)))
    seeds = [then, *(scores for scores in found if scores.same_sentences(now))]
    if len(seeds) < FEWEST_SEEDS:
        return False, (
            f"{untold} scores of {len(seeds)} of its recipe's seeds, and {FEWEST_SEEDS} are needed to know how another "
            "one differs (`seeds` in `cells`)"
        )
    pairs = [agreement(one.nats, other.nats, now.tokens) for one, other in combinations(seeds, 2)]
    alike = agreement(then.nats, now.nats, now.tokens)
    correlations = [pair.correlation for pair in pairs]
    return is_one_model(alike, pairs), (
        f"scores of sentences correlate to {alike.correlation:.4f}, those of {len(seeds)} seeds of the recipe to "
        f"{min(correlations):.4f} to {max(correlations):.4f}; the largest difference is {alike.largest:.3f} nats a "
        f"token, {max(pair.largest for pair in pairs):.3f} between seeds"
    )


def _recorded_scores(store: Store, run: "Run") -> SavedScores | None:
    """What a run's model spent on each test sentence, from MLflow; None where that is not there, or of another form."""
    content = store.read_file(run.info.run_id, f"evaluation/{SENTENCES_FILE}")
    with tempfile.TemporaryDirectory() as folder, suppress(InputError):
        path = Path(folder) / SENTENCES_FILE
        path.write_bytes(content or b"")
        return scores_of(path)
    return None


def _broken(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What in a run's parameters, and in this machine's now, makes bytes depend on the machine; see `why_not_exact`."""
    # Of a run that DVC restored, the machine is unknown; what is asked for as exact is that, or gets a warning.
    precision = then.get("machine.precision", then.get("train.precision", "that of an earlier version"))
    found = []
    if precision != "exact":
        found.append(f"machine.precision was {precision}, and only exact gives the same bytes everywhere")
    for when, values in (("then", then), ("now", now)):
        reason = values.get("machine.exact", "yes")
        found += [f"{when}, {reason}"] * (reason != "yes")
    return found
