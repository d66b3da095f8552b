"""What a sweep works with, and what an entry of `cells` means."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.params import read_params
from pipeline.runtime.errors import InputError
from pipeline.tuning import material
from pipeline.tuning.material import Material
from tests.projects import Project
from tests.tuning.conftest import change, lock_text


def test_a_sweep_is_another_where_code_data_or_parameters_are(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [Material().key]
    change(lambda params: params["cells"].update(gru={"cell": "gru"}) or params["evaluate"].update(seed=2))
    assert Material().key == keys[0]  # so that it goes on when its winner stands there
    for section, values in (
        ("model", {"hidden_size": 5}),
        ("train", {"seed": 2}),
        ("tune", {"search": {"layers": [1]}}),
    ):
        change(lambda params, section=section, values=values: params[section].update(values))
        keys.append(Material().key)
    shutil.copytree("data/encoded/train", "data/encoded/valid", dirs_exist_ok=True)
    lock_text()
    keys.append(Material().key)
    with monkeypatch.context() as patched:
        patched.setattr(material, "code_lines", lambda *_: ["changed"])
        keys.append(Material().key)
    assert len(set(keys)) == len(keys) == 6


def test_an_entry_in_full_means_the_same_without_auto(prepared: Project) -> None:
    change(lambda params: params["train"].update(epochs="auto", batch_tokens="auto", learning_rate="auto"))
    found = Material()
    entry = {"cell": "gru", "learning_rate": 0.02, "seeds": 3}
    full = found.in_full(entry)
    assert full == {
        "epochs": 10,
        "cell": "gru",
        "learning_rate": 0.02,
        "seeds": 3,
        "batch_tokens": 128,
        "weight_decay": 0.03,
    }
    assert found.recipe(full) == found.recipe(entry)
    assert found.recipe(full)["train"]["locked_dropout_inputs"] == 0.0
    assert json.loads(json.dumps(full)) == full
    with pytest.raises(InputError, match=r"cells\.entry.nothing: unknown key"):
        found.recipe({"nothing": 1})


def test_todays_best_is_the_best_that_is_trained_or_any_that_is_not(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(lambda params: params["cells"].update(gru={"cell": "gru"}, rnn={"cell": "rnn"}))
    assert Material().today() == ["gru", "lstm", "rnn"]
    for name, perplexity in (("lstm", 9.0), ("gru", 8.0)):
        folder = Path("data/models") / name
        folder.mkdir(parents=True)
        head = "epoch,steps,learning_rate,train_nats,valid_nats,valid_perplexity\n"
        (folder / "history.csv").write_text(f"{head}1,1,0.1,2.0,{perplexity / 10},{perplexity}\n")
    monkeypatch.setattr(material, "trained_cells", lambda _: ["lstm", "gru"])
    assert Material().today() == ["gru", "rnn"]


def test_an_older_params_yaml_is_told_what_to_add(prepared: Project) -> None:
    change(lambda params: params.pop("tune"))
    assert "tune" not in read_params()
    with pytest.raises(InputError, match=r"params\.yaml has no section `tune`.*docs/tuning\.md"):
        Material()
