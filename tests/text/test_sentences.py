import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import nltk
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.tokenize import _get_punkt_tokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer, save_punkt_params
from punkt import load_model

from pipeline.runtime.errors import InputError
from pipeline.text.documents import Document
from pipeline.text.sentences import LANGUAGES, TRAIN, SentenceSplitter, paragraphs, training_sample
from pipeline.text.sources.docstrings import module_text

ENGLISH = SentenceSplitter("english")
PIECES = ["Dr.", "Smith", "e.g.", "i.e.", "U.S.", "J.", "No.", "5", "3.14", "p.m.", "went.", "He", "he", "The", "the"]
PIECES += [
    "end.",
    "End?!",
    "so...",
    "(yes.)",
    '"Really?"',
    "''quoted.''",
    "et al.",
    "1.",
    "a.",
    "Mr.",
    "I.",
    "été.",
    "ßs.",
]
SPACES = [" ", "  ", "\n", "\t", "\r\n", "\xa0", "\x1c", ""]
PARAGRAPH = st.lists(st.sampled_from(PIECES + SPACES + [" "] * 30), min_size=1, max_size=30).map("".join)


@pytest.fixture(scope="module")
def sent_tokenize(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[str]]]:
    """NLTK's own `sent_tokenize`; NLTK reads the model from a folder in the format of its download."""
    data = tmp_path_factory.mktemp("nltk_data")
    folder = data / "tokenizers" / "punkt_tab" / "english"
    folder.parent.mkdir(parents=True)
    save_punkt_params(load_model("english"), str(folder))
    nltk.data.path.insert(0, str(data))
    _get_punkt_tokenizer.cache_clear()
    yield nltk.sent_tokenize
    nltk.data.path.remove(str(data))
    _get_punkt_tokenizer.cache_clear()


@settings(max_examples=300, deadline=None)
@given(text=PARAGRAPH)
@example(text=" Indented.  Twice. ")
@example(text="Last one.\n")
def test_a_paragraph_has_nltk_sentences(text: str, sent_tokenize: Callable[[str], list[str]]) -> None:
    assert ENGLISH.split(text) == [sentence for part in paragraphs(text) for sentence in sent_tokenize(part)]


def test_real_prose_has_nltk_sentences(sent_tokenize: Callable[[str], list[str]]) -> None:
    folder = Path(nltk.__file__).parent
    text = "\n\n".join(
        module_text(folder / name) or "" for name in ("probability.py", "text.py", "tokenize/punkt.py", "util.py")
    )
    sentences = ENGLISH.split(text)
    assert sentences == [sentence for paragraph in text.split("\n\n") for sentence in sent_tokenize(paragraph)]
    assert len(sentences) > 200


@pytest.mark.parametrize(
    ("name", "count"),
    [("abbrev_types", 156), ("collocations", 37), ("sent_starters", 39), ("ortho_context", 20_366)],
)
def test_the_model_of_punkt_tab_arrives_whole(name: str, count: int) -> None:
    found = getattr(SentenceSplitter("english")._punkt._params, name)
    assert len(found) == count
    assert found == getattr(load_model("english"), name)


def test_unknown_words_do_not_grow_the_model() -> None:
    splitter = SentenceSplitter("english")
    context = splitter._punkt._params.ortho_context
    before = dict(context)
    splitter.split(" ".join(f"Zq{number}. Xq{number} vq{number}." for number in range(100)))
    assert context["never seen"] == 0
    assert context == before


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith of the U.S. came at 5 p.m. on Monday.", ["Dr. Smith of the U.S. came at 5 p.m. on Monday."]),
        ("Apples, e.g. here.", ["Apples, e.g.", "here."]),  # no abbreviation to NLTK's model
        ("Pi is 3.14 today. So it is.", ["Pi is 3.14 today.", "So it is."]),
        ("A line\nthat goes on. Done.", ["A line\nthat goes on.", "Done."]),
        ("A heading\n\nwithout a period", ["A heading", "without a period"]),
        (" \n\t\n", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert ENGLISH.split(text) == sentences


@pytest.mark.parametrize("blank", ["\n\n", "\n \n", "\n\t \n", "\n\n\n \n", "\r\n\r\n", "\n\u3000\n"])
def test_white_space_alone_on_a_line_ends_a_paragraph(blank: str) -> None:
    assert [part.strip() for part in paragraphs(f"one\ntwo{blank}three{blank}")] == ["one\ntwo", "three"]


@given(st.text("a \n\t", max_size=40))
def test_paragraphs_are_runs_of_lines_that_are_not_blank(text: str) -> None:
    runs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            runs[-1].append(line)
        elif runs[-1]:
            runs.append([])
    assert [part.strip() for part in paragraphs(text)] == ["\n".join(run).strip() for run in runs if run]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_loads(language: str) -> None:
    splitter = SentenceSplitter(language)
    assert splitter._punkt._params.abbrev_types
    assert splitter.split("1 2 3! 4 5 6?") == ["1 2 3!", "4 5 6?"]


def test_an_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"tokenize\.language: .*'klingon'") as error:
        SentenceSplitter("klingon")
    assert all(language in str(error.value) for language in (*LANGUAGES, TRAIN))
    assert "english_web" not in LANGUAGES  # NLTK has no such model
    assert "\n" not in str(error.value)


LEARNT = ["The xyz. device works. It is the xyz. device that we use. Every xyz. device works."] * 20
UNSEEN = "This xyz. machine is new. It works."


def test_training_learns_abbreviations_from_the_sample() -> None:
    trainer = PunktTrainer()
    trainer.train("\n\n".join(LEARNT))
    trained = SentenceSplitter(TRAIN, LEARNT)
    assert "xyz" in trained._punkt._params.abbrev_types
    assert trained.split(UNSEEN) == PunktSentenceTokenizer(trainer.get_params()).tokenize(UNSEEN)
    assert trained.split("An xyz. Machine.") != ENGLISH.split("An xyz. Machine.")


@pytest.mark.parametrize("sample", [[], ["", " \n"]])
def test_training_on_nothing_is_refused(sample: list[str]) -> None:
    with pytest.raises(InputError, match="no text to train on"):
        SentenceSplitter(TRAIN, sample)


@given(st.lists(st.text("ab", max_size=30), max_size=30), st.integers(1, 200), st.randoms(use_true_random=False))
def test_the_training_sample_is_bounded_whatever_the_order(
    texts: list[str], characters: int, shuffler: random.Random
) -> None:
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    sample = training_sample(documents, characters)
    by_hash = sorted(documents, key=lambda document: hashlib.sha256(document[0].encode()).digest())
    assert sample == [text[:characters] for _, text, *_ in by_hash][: len(sample)]
    total = sum(map(len, sample))
    assert min(characters, sum(map(len, texts))) <= total < 2 * characters
    shuffler.shuffle(documents)
    assert training_sample(documents, characters) == sample


def test_the_training_sample_hardly_changes_with_the_documents() -> None:
    documents = [Document(str(number), f"{number:05d} " * 20) for number in range(2000)]
    before = training_sample(documents, 12_000)
    after = training_sample([Document("another", "another " * 20), *documents[1:]], 12_000)
    assert len(set(before) ^ set(after)) <= 4
    assert before != [document.text for document in documents[: len(before)]]  # no mere first few


def test_one_long_text_counts_with_its_beginning() -> None:
    assert training_sample([Document("long", "ab" * 1000)], 100) == ["ab" * 50]
