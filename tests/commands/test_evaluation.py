"""Export what is counted, on a small corpus without a trained model."""

import json
import shutil
from pathlib import Path

import kenlm
import numpy as np
import pytest

from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import Vocabulary
from tests.commands.conftest import rnnlm
from tests.conftest import PROJECT, vocabulary_of

WORDS = [f"w{number}" for number in range(20)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A project whose text stages have run: each word depends on the two before, so a trigram is best on validation."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    vocabulary = vocabulary_of({word: 50 - at for at, word in enumerate(WORDS)} | {"rare": 1}, len(WORDS) + 3, 10)
    vocabulary.save(tmp_path / VOCABULARY)
    chance = np.random.default_rng(0)
    for name, count in (("train", 300), ("valid", 40)):
        sentences = []
        for _ in range(count):
            words = chance.integers(0, 20, 2).tolist()
            while len(words) < 12:
                words.append((words[-1] * 3 + words[-2] * 7 + int(chance.random() < 0.1)) % 20)
            sentences.append(vocabulary.sentence_ids([WORDS[word] for word in words] + ["out"] * (len(sentences) % 2)))
        split = EncodedSplit.of(sentences)
        (tmp_path / ENCODED / name).mkdir(parents=True)
        np.save(tmp_path / ENCODED / name / "ids.npy", split.ids)
        np.save(tmp_path / ENCODED / name / "offsets.npy", split.offsets)
    return tmp_path


def test_the_model_that_is_best_on_validation_is_exported_or_that_of_the_order_given(corpus: Path) -> None:
    train, valid = (load_split(corpus / ENCODED / split) for split in ("train", "valid"))
    perplexity = {order: np.exp(KneserNey(train, 23, order).nats(valid).mean()) for order in (2, 3, 5)}
    best = min((3, 5), key=perplexity.__getitem__)
    tokens = Vocabulary.load(corpus / VOCABULARY).tokens
    lines = [" ".join(tokens[id_] for id_ in valid.ids[start + 1 : stop - 1]) for start, stop in _edges(valid)]
    (corpus / "deeper").mkdir()
    for options, order in (((), best), (("--order", "2"), 2)):
        told = json.loads(rnnlm(corpus / "deeper", "export", "--arpa", "a.arpa", *options, "--json"))
        assert (told["file"], told["order"], told["ngrams"][0], len(told["ngrams"])) == ("a.arpa", order, 23, order)
        model = kenlm.Model(str(corpus / "deeper" / "a.arpa"))
        assert model.order == order
        nats = -np.log(10) * sum(model.score(line) for line in lines)
        assert np.exp(nats / valid.tokens) == pytest.approx(perplexity[order], rel=1e-5)
    assert rnnlm(corpus, "export", "--arpa", "b.arpa", "--order", "2").startswith("b.arpa: n-grams of 2 words and less")
    told = rnnlm(corpus, "export", "--arpa", "c.arpa", "--order", "30", status=1)
    longest = max(valid.lengths.max(), train.lengths.max()) + 1
    assert f"no sentence gives an n-gram of 30 words; --order {longest} or less has some" in told
    assert (corpus / "b.arpa").read_bytes() == (corpus / "deeper" / "a.arpa").read_bytes()


def test_a_word_that_the_file_cannot_hold_is_said_before_anything_is_counted(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus / VOCABULARY
    path.write_text(path.read_text().replace("\tw3\t", "\t<s>\t"))
    monkeypatch.setattr(KneserNey, "__init__", lambda *_: pytest.fail("it was counted"))
    assert "cannot hold the word '<s>' (id 5 of the vocabulary)" in rnnlm(
        corpus, "export", "--arpa", "a.arpa", status=1
    )
    assert not (corpus / "a.arpa").exists()


def test_without_a_corpus_the_command_says_what_makes_one(corpus: Path) -> None:
    shutil.rmtree(corpus / "data")
    assert "run `dvc repro vocabulary`" in rnnlm(corpus, "export", "--arpa", "a.arpa", status=1)


def _edges(split: EncodedSplit) -> zip:
    return zip(split.offsets, split.offsets[1:], strict=False)
