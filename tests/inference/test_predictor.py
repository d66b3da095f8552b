"""A model in use reads texts by its own words and rules, and scores them as reading word by word would."""

from pipeline.inference.generation import Decoding
from pipeline.inference.scoring import score_split


def test_no_text_has_no_score(make_predictor) -> None:
    predictor = make_predictor()
    none = predictor.encode(predictor.tokens([]))
    assert len(score_split(predictor, none, "test").sentences.nats) == len(predictor.nats(none)) == 0


def test_texts_are_read_by_the_models_own_words_and_rules(make_predictor, vocabulary) -> None:
    lower, exact = make_predictor(), make_predictor(lowercase=False)
    assert lower.tokens(["The is", ""]) == [["the", "is"], []]
    assert exact.tokens(["The is"]) == [["The", "is"]]
    the, is_, unknown = *vocabulary.encode(["the", "is"]), vocabulary.unknown_id
    assert lower.encode(lower.tokens(["The is", ""])).ids.tolist() == [0, the, is_, 1, 0, 1]
    assert exact.encode(exact.tokens(["The is"])).ids.tolist() == [0, unknown, is_, 1]


def test_it_suggests_and_generates_with_its_own_words(make_predictor, vocabulary) -> None:
    predictor = make_predictor()
    prompts = predictor.tokens(["the", ""])
    assert [len(words) for words in predictor.suggest(prompts, 3)] == [3, 3]
    first, second = predictor.generate(prompts, 2, Decoding(temperature=1.0, top_k=None, max_length=5, seed=1))
    assert [sentence[0] for sentence in first] == ["the", "the"]
    assert {token for sentence in first + second for token in sentence} <= set(vocabulary.tokens)
