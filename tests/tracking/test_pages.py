"""What MLflow's pages say of a run."""

from pipeline.params import load_params
from pipeline.runtime.remarks import Remarks
from pipeline.tracking.pages import training_note
from pipeline.training.history import EpochRecord
from tests.conftest import PROJECT


def test_a_runs_page_repeats_what_stages_said() -> None:
    cell = load_params(PROJECT / "params.yaml").cell("lstm")
    history = [EpochRecord(1, 10, 0.01, 5.0, 4.0, 54.6)]
    said = {"download": Remarks({"rows": {"documents": 9, "blank": 1}}, ["a<b>.txt: HTML"]), "tokenize": Remarks()}
    note = training_note("abc", cell, 1000, history, {}, said)
    assert "\n\n**Warning** (download): `a<b>.txt: HTML`\n\nCorpus: rows: 10 = 9 documents + 1 blank.\n\n" in note
    assert "Corpus" not in training_note("abc", cell, 1000, history, {}, {})
