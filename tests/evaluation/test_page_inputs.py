"""Files that the page cannot be made from are named in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation import page_frame
from pipeline.evaluation.words import read_words, write_words
from pipeline.runtime.errors import InputError
from tests.evaluation.conftest import page_on

NAMES = ["lstm", "gru"]


@pytest.fixture
def folder(make_looked_at, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page_frame, "vega_scripts", lambda: "")
    return make_looked_at(NAMES)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        page_on(folder, NAMES)


def test_words_of_other_sentences_or_vocabularies_are_refused(folder: Path) -> None:
    path = folder / "evaluation" / "gru" / "words.parquet"
    found = read_words(path)
    later, large = found.sentence + 1, np.full_like(found.likeliest, 10_000)
    for change in ({"sentence": later}, {"likeliest": large}, {"target": -found.target}):
        write_words(path, replace(found, **change))
        refused(folder, r"gru/words\.parquet holds other words than the sentences that were scored; delete it and run")
    write_words(path, replace(found, target=found.target[::-1]))
    refused(folder, r"gru/words\.parquet holds other words than those of another model")
    write_words(path, found)
    counted = folder / "evaluation" / "baselines" / "words.parquet"
    write_words(counted, replace(read_words(counted), seen=None))
    refused(folder, r"baselines/words\.parquet holds no words of sentences; delete it and run `dvc repro baselines`")


@pytest.mark.parametrize(
    "change", [{"gradient_at_start": []}, {"units": {}}, {"neighbours": {"2": [[10_000, 0.5]]}}, {"samples": 3}, None]
)
def test_an_inside_that_is_damaged_or_not_of_the_others_words_is_refused(folder: Path, change: Any) -> None:
    path = folder / "evaluation" / "gru" / "inside.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    refused(
        folder,
        r"gru/inside\.json holds not what goes on inside a model; delete it and run `dvc repro evaluate@gru`",
    )


def test_tokens_of_another_text_and_gradients_that_are_no_numbers_are_refused(folder: Path) -> None:
    path = folder / "tokens.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    refused(folder, r"tokens\.parquet holds other sentences than were scored; run `dvc repro`")
    pq.write_table(table, path)
    (folder / "evaluation" / "baselines" / "plain_rnns.csv").write_text("gradient,lag,gradient_norm\nvanishes,0,nan\n")
    refused(folder, r"plain_rnns\.csv holds a gradient that is not a number")
