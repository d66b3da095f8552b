"""`python -m benchmarks.recipes`: what is slower or worse, what may become a record, and sittings that add up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks import options_log, recipes
from benchmarks.recipes import deciding, figures_of, other_bytes, refusal, slower, worse
from pipeline.params import check_params, read_params
from pipeline.provenance import git
from pipeline.provenance.environment import machine_params
from pipeline.retraining.recipe_run import recipe_params
from pipeline.runtime.errors import InputError
from pipeline.training.history import EpochRecord, write_history
from tests.conftest import PROJECT, vocabulary_of
from tests.tools.test_records import record_of
from tools.records import ProvedRun, read_record

OLD = record_of([90.0, 90.2, 89.8, 90.1, 89.9])


def test_perplexities_are_held_against_the_record_with_a_margin() -> None:
    assert worse(OLD, record_of([90.2]).runs) == []
    bad, adapted = worse(OLD, record_of([90.7, 90.6]).runs)
    assert bad.startswith("worse: test perplexity 90.65, the record 90.00; by luck at most 90.")
    assert adapted.startswith("worse: adapted perplexity 82.65, the record 82.00; by luck at most 82.")
    plain = record_of([90.0]).runs
    plain[0].best.adapted.clear()
    assert worse(OLD, plain) == ["no adapted perplexity, which the record has"]
    assert worse(record_of([90.0]), record_of([92.1]).runs)


def test_seconds_are_held_against_those_on_the_same_processor() -> None:
    assert slower(OLD, record_of([90.0], seconds=140).runs) == []
    assert slower(OLD, record_of([90.0], seconds=160).runs) == [
        "slower on AMD EPYC, 2 threads: 161 s, the record 123 s"
    ]


def test_where_the_record_has_no_run_its_minutes_count_and_without_them_nobody_can_say() -> None:
    def elsewhere(seconds: float) -> list[ProvedRun]:
        return [run.model_copy(update={"processor": "another"}) for run in record_of([90.0], seconds=seconds).runs]

    assert slower(OLD, elsewhere(179)) == []
    assert slower(OLD, elsewhere(180)) == ["slower on another, 2 threads: 181 s, and ptb-3min has 3 minutes"]
    (unknown,) = slower(record_of([90.0], "zaremba-small"), elsewhere(1))
    assert unknown.startswith("slower or not? The record has no run on another, 2 threads; --any-speed ")


def test_exact_has_to_make_the_records_weights_again() -> None:
    new = record_of([90.0, 90.2])
    assert other_bytes(OLD, new) == []
    new.runs[1].models["lstm"].weights_sha256 = "f" * 64
    assert other_bytes(OLD, new) == [
        "other bytes: the weights of lstm with seed 2 are not the record's, of the same code in `exact`"
    ]
    for change in ({"precision": "auto"}, {"code": "d"}, {"params": {"new": 1}}):
        assert other_bytes(OLD, new.model_copy(update=change)) == []
    new.runs[1].exact = "no: the processor has no AVX2"
    assert other_bytes(OLD, new) == []


def test_what_decides_a_result_is_all_that_the_stages_read() -> None:
    content = read_params(PROJECT / "params.yaml")
    kept = {key.split(".")[0] for key in deciding(content)}
    assert kept == set(content) - {"retrain", "tune"}


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (record_of([89.0, 89.1, 88.9, 89.0, 89.2], params={"new": 1}), None),
        (record_of([89.9, 90.1, 89.8, 89.9, 90.1], params={"new": 1}), "not better than the record with p < 0.01"),
        (record_of([90.0, 90.3, 89.7, 90.0, 90.0], params={"new": 1}), "not better than the record with p < 0.01"),
        (record_of([80.0] * 4, params={"new": 1}), "it has 4 seeds, the record 5"),
        (record_of([80.0] * 5, seconds=180), "its slowest run took 3.1 minutes, and ptb-3min has 3"),
        (record_of([91.0] * 6), None),  # the same recipe with another seed
        (record_of([99.0], "zaremba-small", params={"new": 1}), None),  # which has no budget
    ],
)
def test_a_record_has_to_be_within_its_minutes_and_surely_better(new, why: str | None) -> None:
    said = refusal(new, OLD)
    assert (said is None) if why is None else (said is not None and why in said)


def test_one_seed_is_no_record_to_defend() -> None:
    assert refusal(record_of([95.0], params={"new": 1}), record_of([90.0])) is None


def test_adapted_figures_may_win_but_not_while_static_ones_lose() -> None:
    def adapted(tests: list[float], gain: float):
        record = record_of(tests, params={"new": 1})
        for run in record.runs:
            run.models["lstm"].adapted["cache + interpolation"] -= gain
        return record

    assert refusal(adapted(OLD.static, 3.0), OLD) is None
    assert "; worse static" in str(refusal(adapted([test + 2 for test in OLD.static], 5.0), OLD))


def commit_all() -> None:
    git.output("add", "params.yaml", "recipes")
    git.output("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "recipes")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Runs the benchmark where a measurement costs nothing; returns the seeds that were run."""
    monkeypatch.chdir(tmp_path)
    Path("recipes/ptb-3min").mkdir(parents=True)
    Path("recipes/ptb-3min/params.yaml").write_text("download: {source: ptb}\n")
    Path("recipes/ptb-3min/README.md").write_text("an old line\n")
    Path("params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    Path("docs").mkdir()
    git.output("init", "-q")
    commit_all()

    def run(
        *arguments: str, code: str = "c", test: float = 90.0, seconds: float = 120.0, weights: str | None = None
    ) -> list[int]:
        ran: list[int] = []

        def measure(name: str, seed: int) -> tuple[ProvedRun, str]:
            ran.append(seed)
            found = record_of([test + seed / 100], seconds=seconds).runs[0].model_copy(update={"seed": seed})
            if weights:
                found.models["lstm"].weights_sha256 = weights
            return found, code

        monkeypatch.setattr(recipes, "measure", measure)
        app = recipes.typer.Typer()
        app.command()(recipes.main)
        done = CliRunner().invoke(app, ["ptb-3min", *arguments])
        if isinstance(done.exception, InputError):
            raise done.exception
        assert done.exit_code == 0, done.output
        print(done.stderr, end="")
        return ran

    return run


def test_sittings_add_up_while_parameters_and_code_are_the_same(measured: Callable[..., list[int]]) -> None:
    kept = Path("recipes/ptb-3min/record.json")
    assert measured("--record") == [1]
    assert measured("--seeds", "3", "--record") == [2, 3]
    assert measured("--seeds", "3", "--record") == []
    record = read_record(kept)
    assert record is not None
    assert record.static == [90.01, 90.02, 90.03]
    assert record.params["download.source"] == "ptb"
    assert record.params["train.epochs"] == read_params(PROJECT / "params.yaml")["train"]["epochs"]
    assert not [key for key in record.params if key.startswith(("download.sources", "retrain")) or key == "train.seed"]
    assert Path("recipes/ptb-3min/README.md").read_text().startswith("Penn Treebank: test perplexity 90.0 (")
    # Where the sittings are lost, as in another clone, the record itself is gone on with.
    Path(".rnnlm/recipes/ptb-3min.json").unlink()
    assert measured("--seeds", "4", "--record") == [4]
    # Other code, other models: what was run before does not count, and a record that is no better is none.
    with pytest.raises(InputError, match=r"^no record: it is not better than the record with p < 0\.01"):
        measured("--seeds", "5", "--record", code="d", test=90.5)
    assert [run.seed for run in old_runs(kept)] == [1, 2, 3, 4]
    Path(".rnnlm/recipes/ptb-3min.json").unlink()
    assert measured("--seeds", "5", "--record", code="d", test=80.0) == [5, 1, 2, 3, 4]
    assert [run.best.test for run in old_runs(kept)] == [80.01, 80.02, 80.03, 80.04, 80.05]


def test_only_a_committed_recipe_becomes_a_record(measured: Callable[..., list[int]]) -> None:
    own = Path("recipes/ptb-3min/params.yaml")
    refused = f"^no record: {own} is not in the commit that the record would name; commit it first$"
    own.write_text("download: {source: ptb}\ntrain: {epochs: 9}\n")
    with pytest.raises(InputError, match=refused):
        measured("--record")
    git.output("rm", "-q", "--cached", str(own))
    with pytest.raises(InputError, match=refused):
        measured("--record")
    assert not Path("recipes/ptb-3min/record.json").exists()
    commit_all()
    assert measured("--record") == [1]


def old_runs(path: Path) -> list[ProvedRun]:
    record = read_record(path)
    assert record is not None
    return record.runs


def test_without_a_wish_for_a_record_all_is_run_anew_and_what_is_worse_fails(
    measured: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^ptb-3min has no record to compare with; --record makes one$"):
        measured()
    measured("--seeds", "2", "--record")
    assert measured("--seeds", "2") == [1, 2]
    with pytest.raises(InputError, match=r"^worse: test perplexity 99\.01"):
        measured(code="d", test=99.0)
    with pytest.raises(InputError, match=r"^slower on AMD EPYC, 2 threads: 171 s, the record 121 s$"):
        measured(seconds=170.0)
    assert measured("--any-speed", seconds=170.0) == [1]
    with pytest.raises(InputError, match=r"^other bytes: the weights of lstm with seed 1 are not the record's"):
        measured(weights="f" * 64)
    measured(weights="f" * 64, code="d")
    assert capsys.readouterr().out.endswith(
        "note: weights are not compared, as the record is of other code or parameters\n"
    )
    assert [run.best.test for run in old_runs(Path("recipes/ptb-3min/record.json"))] == [90.01, 90.02]


def test_a_command_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "COMMAND", "import sys; sys.exit(sys.argv[1:] != "
                        "['recipe', 'x', '--afresh', '--json', '-S', 'train.seed=4'] or 3)")  # fmt: skip
    with pytest.raises(InputError, match=r"^`rnnlm recipe x` failed with seed 4; its message stands above$"):
        recipes.measure("x", 4)


def test_figures_have_the_curve_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    epochs = [EpochRecord(1, 10, 0.01, 4.5, 4.0, 54.6), EpochRecord(2, 20, 0.01, 4.5, 3.0, 20.1)]
    write_history(tmp_path / "history.csv", epochs)
    figures = figures_of({"valid_perplexity": 20.1, "perplexity": 21.0}, tmp_path)
    assert (figures.curve, figures.valid, figures.test) == ([54.6, 20.1], 20.1, 21.0)


def test_the_log_of_options_is_that_of_its_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert (PROJECT / options_log.LOG).read_text() == options_log.log_page(options_log.read_measures()["rows"])
    monkeypatch.setattr("pipeline.provenance.git.output", lambda *arguments: (PROJECT / "params.yaml").read_text())
    content, _ = recipe_params(options_log.BASE)
    for options in options_log.OPTIONS.values():
        changed, _ = recipe_params(options_log.BASE, options_log.switched(content, options))
        assert (changed != content) == bool(options)


def write_text_in(folder: str) -> None:
    """What the text stages leave there for training, in a few words."""
    rows = [["the", "cat", "sees", "the", "dog"], ["the", "dog"]]
    vocabulary = vocabulary_of({"the": 3, "cat": 1, "dog": 2, "sees": 1}, None, sentences=2)
    vocabulary.save(Path(folder, "data/vocabulary.tsv"))
    for split in ("train", "valid"):
        path = Path(folder, "data/encoded", split)
        path.mkdir(parents=True)
        ids = [vocabulary.sentence_ids(tokens) for tokens in rows]
        np.save(path / "ids.npy", np.concatenate(ids).astype(np.uint16))
        np.save(path / "offsets.npy", np.cumsum([0, *map(len, ids)]))


def test_an_option_is_switched_the_other_way_round_and_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["model"]["hidden_size"] = 4
    content["train"] |= {"epochs": 1, "sampled_words": None}
    content["cells"] = {"lstm": {}}
    monkeypatch.setattr(options_log, "recipe_params", lambda name, changes=(): (content, check_params(content)))
    monkeypatch.setattr(options_log, "RECIPE_RUNS", Path("trees"))
    monkeypatch.setattr(
        options_log, "OPTIONS", {"the recipe": {}, "sampled softmax": {"train.sampled_words": (None, 3)}}
    )
    assert options_log.switched(content, {"train.sampled_words": (None, 3)}) == ["train.sampled_words=3"]
    assert options_log.switched(content, {"train.epochs": (1, 5), "model.bias": (False, True)}) == [
        "train.epochs=5", "model.bias=false"
    ]  # fmt: skip
    app = recipes.typer.Typer()
    app.command()(options_log.main)
    done = CliRunner().invoke(app, [])
    assert str(done.exception) == "trees/ptb-10min/data/encoded is missing; run `rnnlm recipe ptb-10min` first"
    write_text_in("trees/ptb-10min")
    Path("recipes/ptb-10min").mkdir(parents=True)
    Path("docs").mkdir()
    assert CliRunner().invoke(app, ["--only", "the recipe", "--seed", "2"]).exit_code == 0
    assert list(options_log.read_measures()["rows"]["the recipe"]["seeds"]) == ["2"]
    for _ in range(2):
        assert CliRunner().invoke(app, ["--only", "the recipe"]).exit_code == 0
    page = Path("docs/log.md").read_text()
    known = options_log.read_measures()["rows"]
    one, two = (known["the recipe"]["seeds"][seed]["valid"] for seed in "12")
    assert one != two
    processor = machine_params()["machine.processor"]
    assert (
        f"| the recipe |  | {one:.2f}, {two:.2f} | {(one + two) / 2:.2f} |  | 0, {processor} |\n"
        "| sampled softmax |  | not measured" in page
    )
    monkeypatch.setattr(options_log, "measured", lambda params, seed: {"valid": one * 1.1, "seconds": 7.0})
    assert CliRunner().invoke(app, []).exit_code == 0
    assert f"| sampled softmax | `train.sampled_words=3` | {one * 1.1:.2f}, " in Path("docs/log.md").read_text()
    # A row that has other values now is measured again, and one that is no more is left out.
    options_log.OPTIONS["sampled softmax"] = {"train.sampled_words": (None, 2)}
    options_log.OPTIONS["betas"] = options_log.OPTIONS.pop("the recipe")
    assert CliRunner().invoke(app, ["--only", "sampled softmax", "--seed", "2"]).exit_code == 0
    rows = options_log.read_measures()["rows"]
    assert rows == {
        "sampled softmax": {"changes": ["train.sampled_words=2"], "seeds": {"2": {"valid": one * 1.1, "seconds": 7.0}}}
    }
    content["train"]["epochs"] = 2
    told = str(CliRunner().invoke(app, []).exception)
    assert told == "recipes/ptb-10min/options.json is of ptb-10min as it was earlier; --anew forgets that"
    assert CliRunner().invoke(app, ["--anew"]).exit_code == 0
    assert str(CliRunner().invoke(app, ["--only", "x"]).exception) == "no row 'x'; there are: sampled softmax, betas"
