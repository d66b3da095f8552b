"""`rnnlm retrain` in earnest: trigger after trigger, with remotes of git and DVC and with MLflow, and kills.

Two of these triggers, a first training and one that brings more text, are in CI as steps of the retraining jobs:
tests/system/test_workflows.py.
"""

import csv
import hashlib
import json
import os
import random
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import STAGE_ORDER, Clone, Site, write_corpus

# Without `pins`, which retraining runs to find out what else is out of date.
STAGES = [stage for stage in STAGE_ORDER if stage.partition("@")[2] in ("", "lstm") and stage != "pins"]
# Lines that a retraining says as each step begins, and those of DVC while it works.
STEPS = ["git fetch:", "git merge:", "dvc pull:", "dvc status:", "dvc repro:", "Running stage 'train", "dvc push:"]
STEPS += ["git commit:", "git push:", "mlflow:", "gate:", "promote:", "report:"]

pytestmark = pytest.mark.soak


def retrain(clone: Clone, *arguments: str) -> tuple[dict[str, Any], str]:
    """What retrain.json holds, and what was said."""
    said = clone.rnnlm("retrain", *arguments)
    return json.loads((clone.folder / ".rnnlm/retrain/retrain.json").read_text()), said


def start(clone: Clone) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["rnnlm", "retrain"],
        cwd=clone.folder,
        env=clone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """All that a command said that has succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kill_at(clone: Clone, step: str, alone: bool = False) -> None:
    """Start a retraining, and kill it when it says that the step begins, `alone` or with all that it has started."""
    process = start(clone)
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith(step):
            (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL, "".join(lines)


def splits(clone: Clone) -> dict[str, str]:
    import pyarrow.parquet as parquet

    table = parquet.read_table(clone.folder / "data/tokens/sentences.parquet")
    return dict(zip(table["document"].to_pylist(), table["split"].to_pylist(), strict=True))


def losses(clone: Clone) -> list[float]:
    """Nats a token of the training, by epoch."""
    with (clone.folder / "data/models/lstm/history.csv").open(encoding="utf-8") as file:
        return [float(row["train_nats"]) for row in csv.DictReader(file)]


def shuffle_words(path: Path) -> None:
    chance = random.Random(7)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for (text,) in rows:
            words = text.split()
            chance.shuffle(words)
            writer.writerow([" ".join(words)])


def two_promoted(site: Site) -> Clone:
    """The machine on which a second version took the place of the first; two retrainings tried that at once."""
    first = site.machine("first")

    # Changed inputs that nobody has committed.
    write_corpus(site.corpus, 150)
    first.change(train__epochs=3)
    assert "params.yaml: changed, but not committed" in first.fails("rnnlm", "retrain")
    first.git("checkout", "-q", "params.yaml")

    # The first training.
    result, said = retrain(first)
    assert (result["verdict"], result["champion_after"]) == ("promoted", "1")
    assert result["ran"] == STAGES
    assert "nothing has run here before" in said
    assert result["warm_start"] == "from random weights: there is no champion yet"
    assert site.champion() == "1"
    site.check()
    before = splits(first)

    second = site.machine("second")
    nothing_new(second, first)

    # New documents that help.
    write_corpus(site.corpus, 450)
    said = two_at_once(second)
    assert "Running stage 'train@lstm'" in said
    assert "verdict: v2 promoted in place of v1" in said
    assert "out of date: data: " in said
    assert site.champion() == "2"
    after = splits(second)
    assert before.items() <= after.items()
    assert len(after) > 2 * len(before)
    assert "test" in after.values()
    # It began with what the champion knew, which can be had from DVC's remote, and can be made again from that.
    assert said.count("warm start: from the weights of champion v1, where the shapes agree") == 1
    assert re.search(r"lstm starts from the weights in data/warm_start, which knows \d+ of the \d+ words", said)
    weights = (first.folder / "data/models/lstm/model.safetensors").read_bytes()
    begun_with = json.loads(second.git("show", "origin/retrained:warm_start.json"))
    assert begun_with["model.safetensors"] == hashlib.md5(weights).hexdigest()
    assert losses(second)[0] < 0.75 * losses(first)[-1]  # an epoch from random weights ends far above
    site.check()
    return second


def nothing_new(second: Clone, first: Clone) -> None:
    """A trigger on a machine that has nothing yet, where nothing has changed since `first` ran."""
    said = second.rnnlm("retrain", "--exit-code", status=10)
    assert "Running stage" not in said
    assert "cached" not in said
    result = json.loads((second.folder / ".rnnlm/retrain/retrain.json").read_text())
    assert (result["verdict"], result["ran"], result["restored"]) == ("unchanged", [], [])
    assert result["after"] == first.git("rev-parse", "retrained").strip()
    assert second.digests() == first.digests()


def two_at_once(clone: Clone) -> str:
    """What two retrainings say, of which one works and the other waits and then has nothing to do."""
    with ThreadPoolExecutor(1) as thread:
        forked = thread.submit(clone.done, "rnnlm", "retrain")
        other = start(clone)
        said_by = [other.communicate()[0], told(forked.result())]
    assert other.returncode == 0, said_by
    assert sum("waiting for its end" in text for text in said_by) == 1
    assert sum("Running stage 'train@lstm'" in text for text in said_by) == 1
    assert sum("verdict: v2 promoted in place of v1" in text for text in said_by) == 1
    assert sum("verdict: nothing to do" in text for text in said_by) == 1
    return "".join(said_by)


def test_what_was_promoted_can_be_made_again_and_sabotage_wins_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, warm_start=True)
    second = two_promoted(site)
    assert second.rnnlm("reproduce", "v2").startswith("identical")
    good = site.corpus.read_bytes()
    # Sabotage: words in any order.
    shuffle_words(site.corpus)
    result, _ = retrain(second)
    assert "train@lstm" in result["ran"]
    assert (result["verdict"], result["champion_after"], result["challenger"]) == ("kept", "2", "3")
    assert site.champion() == "2"
    # On today's sentences, in any order too, it is the better one.
    assert [gate["name"] for gate in result["gates"] if not gate["passed"]] == ["old sentences", "perplexity"]
    assert "at most 10 is allowed" in result["reasons"][1]
    report = (second.folder / ".rnnlm/retrain/report.md").read_text()
    assert "# Retraining: not promoted, v2 stays champion" in report
    assert result["reasons"][0] in report
    for name in re.findall(r"!\[.*\]\((.*)\)", report):
        assert (second.folder / ".rnnlm/retrain" / name).read_bytes().startswith(b"\x89PNG")
    site.check()
    # The same trigger again says nothing new.
    assert retrain(second)[0]["verdict"] == "unchanged"

    # Sabotage: a quarter of the vocabulary. Data that is as it was is not made again.
    site.corpus.write_bytes(good)
    site.work.change(vocabulary__size=20)
    site.trigger("a small vocabulary")
    third = site.machine("third")
    result, _ = retrain(third)
    assert (result["verdict"], site.champion()) == ("kept", "2")
    assert "tokenize" in result["restored"]
    assert {"vocabulary", "train@lstm"} <= set(result["ran"])
    assert "vocabulary.size" in result["changes"]["parameters"]
    assert result["metrics"]["challenger"]["perplexity"] < result["metrics"]["champion"]["perplexity"]
    assert result["test"]["perplexity_b"] > result["test"]["perplexity_a"]
    assert [gate["name"] for gate in result["gates"] if not gate["passed"]] == ["better"]


def test_a_kill_at_any_step_leaves_all_consistent_and_the_next_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path, warm_start=False)
    write_corpus(site.corpus, 150)
    retrain(site.machine("first"))
    assert site.champion() == "1"
    site.work.change(train__epochs=4)
    site.trigger("more epochs")
    machine = site.machine("killed")
    # Its dvc and its stage are left behind, and the next one does not wait for them.
    kill_at(machine, "Running stage 'train", alone=True)
    for step in STEPS:
        assert site.champion() == "1"
        kill_at(machine, step)
        site.check()
        if step == "git push:":  # and that machine is gone for good
            machine = site.machine("killed later")
    assert site.champion() == "2"
    result, _ = retrain(machine)
    assert result["verdict"] == "unchanged"
    assert json.loads(machine.dvc("status", "--json")) == {}
    assert machine.git("rev-parse", "HEAD") == machine.git("rev-parse", "origin/retrained")
    assert machine.git("status", "--porcelain") == ""

    # What a person took back no machine promotes.
    machine.rnnlm("rollback")
    assert site.champion() == "1"
    assert retrain(machine)[0]["verdict"] == "unchanged"
    # Nor where the conditions become others, for which no stage runs.
    site.work.change(retrain__confidence=0.9)
    site.trigger("less confidence")
    machine = site.machine("last")
    result, _ = retrain(machine)
    assert (result["verdict"], result["ran"], site.champion()) == ("kept", [], "1")
    assert "rolled back" in result["reasons"][0]

    # Not one of its commits is on the default branch.
    assert "Retrain at" not in machine.git("log", "origin/main")
