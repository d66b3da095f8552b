"""Test sentences that a model was trained on, by itself or by the weights that it began with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.params import load_params
from pipeline.provenance.dvc import dvc_digest
from pipeline.review.comparison import compare_models
from pipeline.review.conditions import Gate, better_than_ngram
from pipeline.review.judgements import Turn
from pipeline.review.names import find
from pipeline.review.promotion import decide
from pipeline.runtime.paths import TOKENS
from pipeline.text.tokens import TOKEN_SCHEMA
from pipeline.tracking.store import Store, connect
from tests.projects import Project
from tests.review.candidates import candidate, rnnlm, write_corpus

LEFT_OUT = "4 of 24 test sentences were in the training split of one of them and are left out."


@pytest.fixture
def kept(project: Project) -> Path:
    """The text of v1 in DVC's cache; a document of it was renamed, which is in the test split of v2."""
    write_corpus(sentences=20)
    candidate(project, power=0.0)
    digest, yesterday = dvc_digest(TOKENS), pq.read_table(TOKENS)
    kept = Path(".dvc/cache/files/md5", digest[:2], digest[2:])
    kept.parent.mkdir(parents=True)
    shutil.copy(TOKENS, kept)
    rows = yesterday.to_pylist()
    for row in rows[:4]:
        row |= {"document": f"renamed {row['document']}", "split": "test"}
    pq.write_table(pa.Table.from_pylist(rows, schema=TOKEN_SCHEMA), TOKENS)
    candidate(project, power=1.0)
    return kept


def ngram_gate(store: Store, without_old_sentences: bool = False) -> Gate:
    (gate,) = better_than_ngram(store, "2", load_params(), Turn(1, 0.95, "", ""), False, without_old_sentences)
    return gate


def test_sentences_that_a_model_was_trained_on_are_left_out(kept: Path) -> None:
    store, params = connect(), load_params()
    compared = compare_models(store, find(store, "v1"), find(store, "v2"), params)
    assert (compared.left_out, compared.result.sentences, compared.result.documents) == (4, 20, 10)
    assert compared.remarks == (LEFT_OUT,)
    grouped = params.download.model_copy(update={"source": "files", "group_column": "author"})
    compared = compare_models(store, find(store, "v1"), find(store, "v2"), replace(params, download=grouped))
    groups = "Groups: rows of a table with the same 'author' count as one document here."
    assert compared.remarks == (LEFT_OUT, groups)
    store.set_alias("champion", "1")
    verdict = decide(store, "2", 0.95, params)
    assert verdict.outcome == "promoted"
    assert verdict.reason.startswith("On 20 test sentences")
    assert verdict.reason.count(LEFT_OUT) == 1  # the challenger alone has seen none of them

    # Where the training split is lost, a comparison says so, and nobody is promoted unless a person decides.
    kept.unlink()
    (remark,) = compare_models(store, find(store, "v1"), find(store, "v2"), params).remarks
    assert remark.startswith("Whether one of them was trained on some of these sentences cannot be told: the text of ")
    verdict = decide(store, "2", 0.95, params)
    assert (verdict.outcome, verdict.gates[0].passed, verdict.gates[1].made) == ("kept", True, False)
    assert "decide without: --without-old-sentences" in verdict.reason
    assert decide(store, "2", 0.95, params, without_old_sentences=True).outcome == "promoted"


def test_so_are_those_that_the_weights_it_began_with_were_trained_on(kept: Path) -> None:
    store, params = connect(), load_params()
    first, second = find(store, "v1"), find(store, "v2")
    assert (ngram_gate(store).passed, LEFT_OUT in ngram_gate(store).reason) == (True, False)
    store.tag(second.info.run_id, warm_start=first.data.tags["model_digest"])
    second = find(store, "v2")
    assert compare_models(store, second, second, params).left_out == 4
    told = "4 of its 24 test sentences were in the training split of a model whose weights training began with"
    assert told in rnnlm("show", "v2").stdout
    assert told not in rnnlm("show", "v1").stdout
    assert json.loads(rnnlm("show", "v2", "--json").stdout)["remarks"][0].startswith(told)
    gate = ngram_gate(store)
    assert gate.passed
    assert "over 10 documents" in gate.reason
    assert gate.reason.endswith(LEFT_OUT)
    # However far back; and a model whose files were freed has left its record.
    store.client.delete_tag(first.info.run_id, "model_digest")
    store.tag(first.info.run_id, model_removed=first.data.tags["model_digest"], warm_start="0" * 64)
    whose = f"{first.info.run_id[:8]} (lstm, 4 units, 1 epoch, installed-docs, seed 1)"
    told = f"MLflow does not have the model whose weights {whose} began with"
    (remark,) = compare_models(store, second, second, params).remarks
    assert remark.endswith(f"cannot be told: {told}.")
    assert (ngram_gate(store).passed, ngram_gate(store).made) == (False, False)
    assert told in ngram_gate(store).reason
    assert ngram_gate(store, without_old_sentences=True).passed
