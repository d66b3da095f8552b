from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.vocabulary import END_ID, SENTENCE_END, SENTENCE_START, START_ID, UNKNOWN_TOKEN, Vocabulary
from tests.conftest import vocabulary_of

COUNTS = {"b": 3, "the": 9, "a": 3, "Z": 3, "rare": 1, "é": 1}
RANKED = ("the", "Z", "a", "b", "rare", "é")


def test_ids_are_start_end_words_by_falling_count_unknown() -> None:
    vocabulary = vocabulary_of(COUNTS, size=7, sentences=5)
    assert len(vocabulary) == 7
    assert vocabulary.tokens == (SENTENCE_START, SENTENCE_END, *RANKED[:4], UNKNOWN_TOKEN)
    assert vocabulary.counts == (0, 5, 9, 3, 3, 3, 2)
    assert (START_ID, END_ID, vocabulary.unknown_id) == (0, 1, 6)


@pytest.mark.parametrize("size", [None, 9])
def test_every_word_is_kept(size: int | None) -> None:
    vocabulary = vocabulary_of(COUNTS, size, sentences=5)
    assert vocabulary.tokens[2:-1] == RANKED
    assert vocabulary.counts[-1] == 0
    assert vocabulary.unknown_id == 8


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 5), min_size=1), st.data())
def test_the_order_of_the_words_does_not_matter(counts: dict[str, int], data: st.DataObject) -> None:
    size = data.draw(st.integers(4, len(counts) + 3))
    shuffled = dict(data.draw(st.permutations(list(counts.items()))))
    vocabulary = vocabulary_of(counts, size, sentences=2)
    assert vocabulary.tokens == vocabulary_of(shuffled, size, sentences=2).tokens
    assert sum(vocabulary.counts) == 2 + sum(counts.values())
    kept = vocabulary.tokens[2:-1]
    assert all(counts[word] >= counts[other] for word in kept for other in counts.keys() - set(kept))


def test_with_fewer_words_than_allowed_all_are_kept() -> None:
    assert vocabulary_of(COUNTS, size=10, sentences=5).tokens == vocabulary_of(COUNTS, None, sentences=5).tokens


def test_unknown_words_and_ends() -> None:
    vocabulary = vocabulary_of(COUNTS, size=5, sentences=5)
    assert vocabulary.encode(["Z", "b", "the", "never"]) == [3, 4, 2, 4]
    assert vocabulary.sentence_ids(["Z", "b"]) == [0, 3, 4, 1]
    assert vocabulary.sentence_ids([]) == [0, 1]


SPECIALS = [SENTENCE_START, SENTENCE_END, UNKNOWN_TOKEN]


def test_text_spelled_like_a_special_token_is_text(tmp_path: Path) -> None:
    without = vocabulary_of(COUNTS, size=None, sentences=5)
    assert without.encode(SPECIALS) == [without.unknown_id] * 3
    vocabulary = vocabulary_of(dict.fromkeys([*SPECIALS, "a"], 1), size=None, sentences=5)
    for path in (None, tmp_path / "vocabulary.tsv"):
        if path:
            vocabulary.save(path)
            vocabulary = Vocabulary.load(path)
        ids = vocabulary.encode(SPECIALS)
        assert [vocabulary.tokens[id_] for id_ in ids] == SPECIALS
        assert set(ids) == {2, 3, 4}
        assert len(vocabulary) == 7


ODD = ["nan", "null", "None", "NA", '"', "'", "#", "\\", "\\t", ",", "-1", "0", "true", "é", "\u2028", "\x0b", "\ufeff"]


@given(st.dictionaries(st.sampled_from(ODD) | st.text("x\x85\"'\x1c", min_size=1), st.integers(1)))
@example(counts=dict.fromkeys(ODD, 1))
def test_a_vocabulary_comes_back(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.tsv"
    vocabulary = vocabulary_of(counts, None, sentences=3)
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert (loaded.tokens, loaded.counts) == (vocabulary.tokens, vocabulary.counts)
    assert loaded.encode(list(counts)) == vocabulary.encode(list(counts))


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tsv"
    vocabulary_of({"é": 2, '"': 1}, None, sentences=3).save(path)
    lines = [
        "id\ttoken\tcount",
        "0\tSENTENCE_START\t0",
        "1\tSENTENCE_END\t3",
        "2\té\t2",
        '3\t"\t1',
        "4\tUNKNOWN_TOKEN\t0",
    ]
    assert path.read_bytes() == "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.parametrize("token", ["", "a\tb", "a\n", "\r"])
def test_a_token_that_the_file_cannot_hold_is_refused(token: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocabulary\.tsv cannot hold the token"):
        vocabulary_of({token: 1}, None, sentences=1).save(tmp_path / "vocabulary.tsv")
    assert list(tmp_path.iterdir()) == []


GOOD = "id\ttoken\tcount\n0\tSENTENCE_START\t0\n1\tSENTENCE_END\t3\n2\tthe\t2\n3\ta\t1\n4\tUNKNOWN_TOKEN\t0\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id\ttoken\tcount\n", "", "line 1: expected the header"),
        ("id\ttoken", "id,token", "line 1: expected the header"),
        (GOOD, "", "line 1: expected the header"),
        ("\tcount\n", "\tcount\r\n", "line 1: expected the header"),
        (GOOD, "id\ttoken\tcount", "the last line is cut off"),
        ("TOKEN\t0\n", "TOKEN\t0", "the last line is cut off"),
        ("TOKEN\t0\n", "TOK", "the last line is cut off"),
        ("2\tthe", "3\tthe", "line 4: expected `2 TOKEN COUNT`"),
        ("2\tthe\t2\n", "", "line 4: expected `2 TOKEN COUNT`"),
        ("2\tthe", "02\tthe", "line 4: expected `2 TOKEN COUNT`"),
        ("the\t2", "the 2", "line 4: expected `2 TOKEN COUNT`"),
        ("the\t2", "the\t2\t", "line 4: expected `2 TOKEN COUNT`"),
        ("\tthe\t", "\t\t", "line 4: expected `2 TOKEN COUNT`"),
        ("\n3\ta", "\n\n3\ta", "line 5: expected `3 TOKEN COUNT`"),
        ("the\t2", "the\t-2", "line 4: the count must be a whole number, got '-2'"),
        ("the\t2", "the\t2.0", "line 4: the count must be a whole number, got '2.0'"),
        ("the\t2", "the\t", "line 4: the count must be a whole number, got ''"),
        ("the\t2", "the\t²", "line 4: the count must be a whole number, got '²'"),
        ("the\t2\n", "the\t2\r\n", r"line 4: the count must be a whole number, got '2\r'"),
        ("\ta\t", "\tthe\t", "'the' is there twice, with ids 2 and 3"),
        ("SENTENCE_START", "START", "must begin with SENTENCE_START and SENTENCE_END"),
        ("SENTENCE_END", "END", "must begin with SENTENCE_START and SENTENCE_END"),
        ("4\tUNKNOWN_TOKEN\t0\n", "", "end with UNKNOWN_TOKEN"),
        (GOOD[15:], "", "must begin with SENTENCE_START"),
    ],
)
def test_a_damaged_file_names_itself_and_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tsv"
    assert GOOD.count(old) == 1
    path.write_bytes(GOOD.replace(old, new).encode())
    with pytest.raises(InputError) as error:
        Vocabulary.load(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert message in text
    assert "dvc repro vocabulary" in text
    assert "\n" not in text


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tsv"
    path.write_bytes(GOOD.replace("the", "thé").encode("latin-1"))
    with pytest.raises(InputError, match=rf"vocabulary\.tsv is not UTF-8 \(byte {GOOD.index('the') + 2}\)"):
        Vocabulary.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocabulary\.tsv is missing; run `dvc repro vocabulary`"):
        Vocabulary.load(tmp_path / "vocabulary.tsv")
