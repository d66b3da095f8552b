"""What READMEs of recipes and the record book say of the records, which a command alone writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.recipes import deciding
from pipeline.provenance import git
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT
from tools.records import Figures, ProvedRun, Record, first_line, page, read_record, records, write_pages


def record_of(tests: list[float], recipe: str = "ptb-3min", seconds: float = 120.0, **changes) -> Record:
    """Of seeds with these test perplexities."""
    runs = [
        ProvedRun(
            seed=seed,
            commit="0123456789abcdef",
            date="2026-11-26",
            processor="AMD EPYC",
            threads=2,
            exact="yes",
            seconds=seconds + seed,
            models={
                "lstm": Figures(
                    valid=test + 5,
                    test=test,
                    test_low=test - 2,
                    test_high=test + 2,
                    weights_sha256=f"{seed:064}",
                    adapted={"cache": test - 9, "cache + interpolation": test - 8, "dynamic + cache": test - 7},
                    adapted_valid={"cache": 1.0, "cache + interpolation": 3.0, "dynamic + cache": 4.0},
                    curve=[test + 50, test + 5],
                )
            },
        )
        for seed, test in enumerate(tests, 1)
    ]
    values: dict[str, Any] = {"recipe": recipe, "command": f"rnnlm recipe {recipe}", "precision": "exact"}
    values |= {"params": {}, "code": "c"}
    return Record(runs=runs, **values | changes)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one recipe, not measured, and one of `make headline`."""
    monkeypatch.chdir(tmp_path)
    for name in ("ptb-3min", "default"):
        Path("recipes", name).mkdir(parents=True)
        Path("recipes", name, "params.yaml").write_text("download: {source: ptb}\n")
        Path("recipes", name, "README.md").write_text("an old line\n\nWhat it is.\n")
    Path("recipes/default/record.json").write_text('{"of": "another form"}')
    Path("docs").mkdir()
    return Path("recipes/ptb-3min")


def test_the_first_line_of_every_readme_and_the_record_book_are_those_of_the_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(PROJECT)
    found = records()
    assert len(found) > 11
    lines = {name: (PROJECT / "recipes" / name / "README.md").read_text().splitlines()[0] for name in found}
    assert lines == {name: first_line(name, record) for name, record in found.items()}, "run `python -m tools.records`"
    assert (PROJECT / "docs/records.md").read_text() == page(found), "run `python -m tools.records`"


def test_the_commit_of_every_run_has_the_parameters_of_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever checks that commit out and runs the recipe makes the record again."""
    monkeypatch.chdir(PROJECT)
    runs = [(record, run) for record in records().values() if record for run in record.runs]
    if missing := {run.commit for _, run in runs} - set(git.output("rev-list", "--all").split()):
        pytest.skip(f"a clone without all commits: no {sorted(missing)[0]}")
    for record, run in runs:
        content = yaml.safe_load(git.output("show", f"{run.commit}:./recipes/{record.recipe}/params.yaml"))
        other = {key: value for key, value in deciding(content).items() if record.params.get(key) != value}
        assert not other, f"{record.recipe}, seed {run.seed}: commit {run.commit} has others"


def test_the_line_has_the_median_seed_with_its_interval_the_slowest_run_and_what_is_best_adapted(kept: Path) -> None:
    assert list(map(str, write_pages())) == ["docs/records.md", "recipes/ptb-3min/README.md"]
    unmeasured = "Penn Treebank: test perplexity not measured yet: `rnnlm recipe ptb-3min`.\n\nWhat it is.\n"
    assert (kept / "README.md").read_text() == unmeasured
    (kept / "record.json").write_text(record_of([114.0, 112.0, 113.0]).model_dump_json())
    list(write_pages())
    line, rest = (kept / "README.md").read_text().split("\n", 1)
    assert line == (
        "Penn Treebank: test perplexity 113.0 (95% interval 111.0 to 115.0), adapted 105.0, median of 3 seeds, "
        "2.0 minutes on AMD EPYC, 2 threads, exact: `rnnlm recipe ptb-3min`."
    )
    assert rest == "\nWhat it is.\n"
    assert (
        "| 3 | 113.0 | 111.0 to 115.0 | 114.0, 112.0, 113.0 | 105.0 | 2.0 min | exact | AMD EPYC, 2 threads | "
        "0123456789ab | 2026-11-26 | `rnnlm recipe ptb-3min` |" in Path("docs/records.md").read_text()
    )
    assert "| ptb-3min | lstm | 163.0, 118.0 |" in Path("docs/records.md").read_text()
    assert list(write_pages()) == []


def test_a_record_without_a_curve_has_no_row_for_it() -> None:
    record = record_of([113.0])
    record.runs[0].best.curve.clear()
    assert "lstm |" not in page({"ptb-3min": record})


def test_of_several_models_each_is_named() -> None:
    record = record_of([80.0], "equal")
    (run,) = record.runs
    run.models["rnn"] = run.models["lstm"].model_copy(update={"test": 90.0, "valid": 99.0, "adapted": {}})
    assert "test perplexity lstm 80.0 (95% interval 78.0 to 82.0), adapted 72.0, rnn 90.0 (" in first_line(
        "equal", record
    )
    assert "one seed" in first_line("equal", record)
    assert record_of([4.0, 1.0, 3.0, 2.0]).median.best.test == 2.0


def test_a_damaged_record_is_one_line(kept: Path) -> None:
    path = kept / "record.json"
    path.write_text(json.dumps({"recipe": "x"}))
    with pytest.raises(InputError, match=r"^recipes/ptb-3min/record\.json is not a record: ") as caught:
        read_record(path)
    assert len(str(caught.value).splitlines()) == 1
