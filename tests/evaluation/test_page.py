"""What is on the page, against the files that it is made from; test_page_script.py looks at it in a browser."""

import math

import numpy as np
import pytest

from pipeline.evaluation import page, page_frame
from pipeline.evaluation.results import read_metrics, scores_of
from pipeline.evaluation.words import read_words
from pipeline.runtime.errors import InputError
from pipeline.runtime.hashes import sha256
from tests.evaluation.conftest import WORDS, page_on


@pytest.fixture(autouse=True)
def without_vega(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_frame, "vega_scripts", lambda: "")


def test_the_page_says_what_the_files_say_and_is_the_same_bytes_twice(make_looked_at) -> None:
    names = ["rnn", "lstm"]
    folder = make_looked_at(names)
    text, data = page_on(folder, names)
    assert page_on(folder, names)[0] == text
    metrics = read_metrics(folder / "evaluation" / "lstm" / "metrics.json")
    (lstm,) = [model for model in data["models"] if model["name"] == "lstm"]
    for key in ("perplexity", "parameters"):
        assert lstm[key] == metrics[key]
    assert (lstm["low"], lstm["high"]) == (metrics["perplexity_low"], metrics["perplexity_high"])
    assert [model["name"] for model in data["models"]] == ["unigram", "trigram", "5-gram", "rnn", "lstm"]
    assert len({(model["colour"], model["shape"]) for model in data["models"]}) == 5
    assert [row["perplexity"] for row in data["curves"] if row["model"] == "rnn"] == [150, 99.5]
    assert [row["kept"] for row in data["curves"]] == [False, True] * 2
    report = (folder / "report" / "report.md").read_text()
    first = next(line for line in report.splitlines() if "(perplexity" in line).removeprefix("- ")
    assert f"<p class=verdict>{first}</p>" in text
    hashes = data["foot"]["hashes"]
    assert hashes["lstm, model.safetensors, sha256"] == f"{1:064}"
    assert hashes[f"{folder.name}/tokens.parquet, sha256"] == sha256(folder / "tokens.parquet")
    assert data["samples"][0] == {
        "temperature": "0.5", "chosen": False, "models": {name: [f"<b>{name}</b> at a half"] for name in names}
    }  # fmt: skip
    after = [row for row in data["gradient"]["cells"] if (row["model"], row["when"]) == ("rnn", "after")]
    assert [row["lag"] for row in after] == list(range(len(after)))
    assert [row["share"] for row in data["gradient"]["plain"]] == [1, 0.1, 0.01, 1, 2, 4]


def test_sentences_are_those_of_the_test_split_with_what_each_model_spent(make_looked_at) -> None:
    names = ["rnn", "lstm", "gru"]
    folder = make_looked_at(names)
    _, data = page_on(folder, names)
    shown = data["sentences"]
    assert shown["models"] == [*names, "5-gram"]
    assert len(shown["list"]) == 40
    nats = scores_of(folder / "evaluation" / "gru" / "sentences.parquet").nats
    found = read_words(folder / "evaluation" / "gru" / "words.parquet")
    sums = sorted(sum(sentence["nats"][2]) for sentence in shown["list"])
    assert sums == pytest.approx(sorted(nats), abs=0.1)
    for sentence in shown["list"]:
        assert [at for at, word in enumerate(sentence["words"]) if word == "zzz"] == sentence["unknown"]
        for place, target in enumerate(sentence["targets"][0][:-1]):
            assert target == -1 or place in sentence["unknown"] or shown["words"][target] == sentence["words"][place]
        assert all(len(best) == 5 for best in sentence["likeliest"][2])
    kinds = list(dict.fromkeys(sentence["kind"] for sentence in shown["list"]))
    assert kinds[:4] == ["typical", "easiest", "hardest", "drawn evenly"]
    assert any("5-gram much better than" in kind for kind in kinds)
    easiest, hardest = ([s for s in shown["list"] if s["kind"] == kind] for kind in ("easiest", "hardest"))
    mean = [np.mean([np.sum(n) / len(n) for n in group[0]["nats"]]) for group in (easiest, hardest)]
    assert mean[0] < mean[1]
    assert len(found.nats) == sum(len(sentence["nats"][0]) for sentence in shown["list"])


def test_what_is_better_where_adds_up_to_the_whole(make_looked_at) -> None:
    folder = make_looked_at(["lstm"])
    _, data = page_on(folder, ["lstm"])
    metrics = read_metrics(folder / "evaluation" / "lstm" / "metrics.json")
    whole = metrics["nats_per_token"] * metrics["tokens"]
    for aspect in data["where"]["aspects"]:
        rows = [row for row in aspect["rows"] if row["model"] == "lstm" and row["bin"] != "all words"]
        assert len(rows) > 1
        assert sum(row["tokens"] for row in rows) == metrics["tokens"]
        assert sum(row["tokens"] * math.log(row["perplexity"]) for row in rows) == pytest.approx(whole, rel=1e-3)


def test_where_models_are_many_there_are_fewer_sentences_of_each_kind(make_looked_at, monkeypatch) -> None:
    monkeypatch.setattr(page, "MOST_SHOWN", 600)
    names = ["rnn", "lstm", "gru"]
    _, data = page_on(make_looked_at(names), names)
    sentences = data["sentences"]["list"]
    assert 500 < 4 * sum(len(sentence["nats"][0]) for sentence in sentences) <= 600
    assert len({sentence["kind"] for sentence in sentences}) == 8
    assert len(data["units"]["list"]) == 4  # these are shown all the same


def test_text_of_a_corpus_is_never_markup(make_looked_at) -> None:
    evil = ["</script><script>alert(1)</script>", "<!--<script>", "&lt;", "\u2028"]
    text, data = page_on(make_looked_at(["lstm"], [*WORDS[:-4], *evil]), ["lstm"])
    assert {evil[0], evil[1]} <= {word for sentence in data["sentences"]["list"] for word in sentence["words"]}
    assert text.count("<script") == 3
    assert text.count("</script>") == 3
    assert "alert(1)<" not in text


def test_words_of_a_corpus_of_characters_stand_together(make_looked_at) -> None:
    words = [chr(0x4E00 + number) for number in range(len(WORDS))]
    text, data = page_on(make_looked_at(["lstm"], words, by_character=True), ["lstm"])
    assert data["sentences"]["joined"] is True
    assert words[0] in text


def test_without_samples_there_is_no_such_section(make_looked_at) -> None:
    folder = make_looked_at(["lstm"])
    (folder / "evaluation" / "lstm" / "samples.txt").write_text("")
    _, data = page_on(folder, ["lstm"])
    assert "samples" not in data


@pytest.mark.parametrize("name", ["lstm/words.parquet", "lstm/inside.json", "baselines/plain_rnns.csv"])
def test_a_missing_file_names_the_stage_that_makes_it(make_looked_at, name: str) -> None:
    folder = make_looked_at(["lstm"])
    (folder / "evaluation" / name).unlink()
    stage = "baselines" if "baselines" in name else "evaluate@lstm"
    with pytest.raises(InputError, match=rf"{name} is missing; make it with `dvc repro {stage}`"):
        page_on(folder, ["lstm"])
