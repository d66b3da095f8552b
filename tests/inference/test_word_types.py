"""Word types that a model does not know: the same number as a comparison of models finds."""

from pathlib import Path

import pytest

from pipeline.inference.scoring import unknown_types_of
from pipeline.inference.word_types import check_reads_corpus, unknown_types_with
from pipeline.model.folder import TextRules
from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.text.counting import unknown_types
from tests.conftest import vocabulary_of
from tests.text.token_files import write_rows


def test_types_of_the_corpus_and_of_texts_count_once_each(tmp_path: Path) -> None:
    rows = [("train", ["a", "b", None]), ("valid", ["c", "UNKNOWN_TOKEN"]), ("test", ["b", "d", None, "a"])]
    tokens, vocabulary = write_rows(tmp_path / "tokens", rows), vocabulary_of({"a": 2, "d": 1}, None, 1)
    corpus = unknown_types_of(tokens, vocabulary)
    assert [len(corpus)] == unknown_types(tokens, [vocabulary], Bar()) == [4]  # b, c, UNKNOWN_TOKEN, and the unnamed
    assert unknown_types_with(corpus, vocabulary, []) == 4
    assert unknown_types_with(corpus, vocabulary, [["a", "b", "e"], ["e", "f", "\ud800"]]) == 7
    assert unknown_types_with(corpus, vocabulary, [["<unk>", "[UNK]", "b"]]) == 4  # the unnamed, which the corpus has


def test_a_corpus_that_is_read_otherwise_has_other_words() -> None:
    words, characters = TextRules(lowercase=True), TextRules(lowercase=True, by_character=True)
    for rules in (words, characters):
        check_reads_corpus(rules, rules.model_copy())
    with pytest.raises(InputError, match=r"trained with tokenize\.lowercase true, params\.yaml says false"):
        check_reads_corpus(words, TextRules(lowercase=False))
    with pytest.raises(InputError, match=r"tokenize\.language characters, params\.yaml says one with words"):
        check_reads_corpus(characters, words)
    with pytest.raises(InputError, match=r"tokenize\.language one with words, params\.yaml says characters"):
        check_reads_corpus(words, characters)
