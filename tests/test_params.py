"""params.yaml: what is refused, and how clearly."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import at, check_params, flat, load_params, read_params
from pipeline.runtime.errors import InputError
from tests.conftest import PROJECT


@pytest.fixture
def content() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "params.yaml").read_text())


def test_the_file_in_the_repository_is_valid_and_holds_the_notes_models() -> None:
    params = load_params(PROJECT / "params.yaml")
    assert list(params.cells) == ["rnn", "lstm", "gru"]
    assert params.cells["rnn"].model.bias is False
    assert params.cells["gru"].model.embedding_dim == 100
    assert {cell.model.hidden_size for cell in params.cells.values()} == {100}


def test_a_cell_overrides_model_and_train_and_may_be_repeated(content: dict[str, Any]) -> None:
    content["cells"] = {"a": {"cell": "gru", "hidden_size": 7, "learning_rate": 0.5}, "b": {"cell": "gru"}}
    params = check_params(content)
    assert params.cells["a"].model.hidden_size == 7
    assert params.cells["a"].train.learning_rate == 0.5
    assert params.cells["b"].model.hidden_size == content["model"]["hidden_size"]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("train", "epochz"), 3, "train.epochz: unknown key"),
        (("train", "epochs"), 0, "train.epochs: .*greater than or equal to 1.*got 0"),
        (("train", "epochs"), "three", "train.epochs: .*integer.*got 'three'"),
        (("train", "epochs"), True, "train.epochs: .*integer.*got True"),
        (("model", "dropout"), 1.0, "model.dropout: .*less than 1.*got 1.0"),
        (("model", "cell"), "transformer", "model.cell: .*'rnn', 'lstm' or 'gru'.*got 'transformer'"),
        (("model", "tie_weights"), True, "tie_weights.*embedding_dim must equal hidden_size"),
        (("model", "lower_sizes"), [50], "model: lower_sizes .*: 0 of them with layers 1, not 1; null gives all"),
        (("model", "mogrifier_rounds"), 5, "model: mogrifier_rounds needs an LSTM with an embedding: set cell and"),
        (("model", "mogrifier_rank"), 5, "model: mogrifier_rank counts with mogrifier_rounds alone: set it to null"),
        (("train", "decay_after"), 3, "train: decay_after counts with schedule step alone, not with auto: set it to"),
        (("train", "device"), "cuda", "precision exact runs on the processor: set device to cpu or auto, or precision"),
        (("vocabulary", "size"), 3, "vocabulary.size: .*greater than or equal to 4"),
        (("tokenize", "splits", "test"), 0, "tokenize.splits.test: .*greater than 0"),
        (("download", "source"), "web", "download: source: there is no 'web'; there are installed-docs, files, reddit"),
        (("download", "sources", "files"), [{"url": "a"}], "download: sources: files is built in"),
        (("download", "sources", "x"), [], "download.sources.x: .*at least 1 item"),
        (("download", "sources", "x"), [{"url": "a", "split": "test"}], "sources.x: give every file a split"),
        (("download", "sources", "x"), [{"url": "a", "checksum": "md5:00"}], "sources.x.0.checksum: .*pattern"),
        (("download", "delimiter"), "tab", "download.delimiter: String should match pattern .*, got 'tab'$"),
        (("download", "sources", "x"), [{"url": "a", "format": "docx"}], "sources.x.0.format: .*'word/tag'"),
        (("download", "max_bytes"), 0, "download.max_bytes: .*greater than 0"),
        (("evaluate", "adaptation"), ["cash"], "evaluate.adaptation: there is no 'cash'; join, with [+], some of: ens"),
        (("evaluate", "adaptation"), ["cache + cache"], "evaluate.adaptation: 'cache [+] cache' names a part twice"),
        (("evaluate", "adaptation"), ["cache+dynamic", "dynamic + cache"], "adaptation: .* stands there twice"),
        (("evaluate", "adaptation"), ["ensemble + cache"], "ensemble needs several seeds: `seeds: 5` in an entry of"),
        (("cells",), {}, "cells is empty"),
        (("cells",), {"../x": {"cell": "rnn"}}, "'../x' is not a usable name"),
        (("cells",), {"v2": {"cell": "rnn"}}, "'v2' is not a usable name: commands take it for a version"),
        (("cells",), {"a": {"hidden": 3}}, "cells.a.hidden: unknown key"),
        (("cells",), {"a": {"hidden_size": -3}}, "cells.a: hidden_size: .*got -3"),
    ],
)
def test_what_does_not_fit_is_refused_on_one_line(
    content: dict[str, Any], path: tuple[str, ...], value: Any, expected: str
) -> None:
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(InputError) as caught:
        check_params(content)
    assert re.search(expected, str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(content: dict[str, Any]) -> None:
    del content["train"]["seed"]
    with pytest.raises(InputError, match=r"train\.seed: is missing"):
        check_params(content)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a: [", "not valid YAML"),
        (b"- a\n", "must hold sections"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "is missing"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, raw: bytes | None, expected: str) -> None:
    path = tmp_path / "params.yaml"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(InputError, match=expected) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_adaptations_have_one_name_whatever_the_order_of_their_parts(content: dict[str, Any]) -> None:
    content["evaluate"]["adaptation"] = ["cache", "interpolation+cache + dynamic+ensemble"]
    content["cells"]["lstm"]["seeds"] = 2
    assert check_params(content).evaluate.adaptation == ["cache", "ensemble + dynamic + cache + interpolation"]


@pytest.mark.parametrize("key", ["dropped_words", "locked_dropout_embedding"])
def test_what_drops_of_an_embedding_needs_one(content: dict[str, Any], key: str) -> None:
    content["cells"]["lstm"][key] = 0.1
    with pytest.raises(InputError, match=rf"cells\.lstm: {key} needs an embedding: set embedding_dim, or it to 0"):
        check_params(content)
    content["cells"]["lstm"]["embedding_dim"] = 50
    assert getattr(check_params(content).cells["lstm"].train, key) == 0.1


def test_numbers_with_an_exponent_are_numbers(content: dict[str, Any], tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text().replace("learning_rate: auto", "learning_rate: 1e-3")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").cells["lstm"].train.learning_rate == 0.001


def test_the_table_in_the_docs_names_every_parameter(content: dict[str, Any]) -> None:
    def keys(value: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for key, item in value.items():
            if isinstance(item, dict) and prefix + key not in ("cells", "download.sources", "tune.search"):
                found += keys(item, f"{prefix}{key}.")
            else:
                found.append(prefix + key)
        return found

    table = (PROJECT / "docs" / "parameters.md").read_text()
    documented = re.findall(r"^\| `([a-z_.]+)` \| `?([^|]*?)`? \|", table, re.MULTILINE)
    assert [name for name, _ in documented] == keys(content)
    for name, shown in documented:
        value: Any = content
        for key in name.split("."):
            value = value[key]
        if not isinstance(value, list | dict):
            assert yaml.safe_load(shown) == value, name


def test_seeds_of_a_cell_count_up_from_its_first(content: dict[str, Any]) -> None:
    content["cells"] = {"lstm": {"seeds": 3, "seed": 7}, "gru": {"cell": "gru"}}
    params = check_params(content)
    assert [cell.train.seed for cell in params.cells["lstm"].each_seed] == [7, 8, 9]
    folders = [cell.folder.as_posix() for name in ("lstm", "gru") for cell in params.cells[name].each_seed]
    assert folders == ["lstm", "lstm/seeds/8", "lstm/seeds/9", "gru"]
    for seeds, message in ((0, "greater than or equal to 1, got 0"), (2.0, "valid integer, got 2.0"), ("2", "got '2'")):
        content["cells"] = {"lstm": {"seeds": seeds}}
        with pytest.raises(InputError, match=rf"cells\.lstm: seeds: .*{message}"):
            check_params(content)


def test_a_dotted_key_leads_to_its_value_and_back() -> None:
    params = {"train": {"epochs": 3, "nothing": {}}, "cells": {"lstm": {"cell": "lstm"}}, "seed": None}
    assert flat(params) == {"train.epochs": 3, "train.nothing": {}, "cells.lstm.cell": "lstm", "seed": None}
    assert [at(params, key) for key in flat(params)] == [3, {}, "lstm", None]
    assert at(params, "cells.lstm") == {"cell": "lstm"}
    assert [at(params, key) for key in ("train.epochs.more", "model.cell", "train.rate")] == [None] * 3


def test_dvc_may_write_params_yaml_anew(tmp_path: Path) -> None:
    """As `dvc exp run -S` does, which breaks long lines: the file stays readable, and nothing else changes."""
    from dvc.utils.serialize import load_yaml, modify_yaml

    path, before = tmp_path / "params.yaml", yaml.safe_load((PROJECT / "params.yaml").read_text())
    shutil.copy(PROJECT / "params.yaml", path)
    with modify_yaml(path) as content:
        content["model"]["hidden_size"] = 200
    before["model"]["hidden_size"] = 200
    assert yaml.safe_load(path.read_text()) == load_yaml(path) == before


SCALAR = st.one_of(
    st.sampled_from(["010", "0o10", "yes", "off", "NO", "y", "1e3", "1E-3", "1_000", "12:30:45", "0x1F", ".5", "~"]),
    st.from_regex(r"[-+]?[0-9][0-9_]{0,5}(\.[0-9_]{0,3})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"[A-Za-z]{1,5}", fullmatch=True),
)


@given(scalar=SCALAR)
def test_numbers_and_words_are_read_as_dvc_reads_them(scalar: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvc.utils.serialize import parse_yaml

    path = tmp_path_factory.mktemp("any") / "params.yaml"
    path.write_text(f"train:\n  epochs: {scalar}\n")
    found = read_params(path)["train"]["epochs"]
    wanted = parse_yaml(path.read_text(), path)["train"]["epochs"]
    assert repr(found) == repr(wanted)  # not a number is not equal to itself


@pytest.mark.parametrize("value", ["2024-13-45", "0x_", "9" * 5000, "[" * 3000])
def test_what_yaml_cannot_turn_into_a_value_is_one_line(value: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"train: {{seed: {value}}}\n")
    with pytest.raises(InputError, match=r"params.yaml is not valid YAML: "):
        read_params(tmp_path / "params.yaml")


def test_a_word_that_yaml_once_read_as_true_is_refused_in_one_line(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("lowercase: true", "lowercase: yes"))
    with pytest.raises(InputError, match=r"tokenize\.lowercase: Input should be a valid boolean, got 'yes'$"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text(text.replace("hidden_size: 100", "hidden_size: 010"))
    assert load_params(tmp_path / "params.yaml").cells["lstm"].model.hidden_size == 10
