from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference.generation import Decoding, generate, readable, suggest
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import END_ID, START_ID

OPTIONS: dict[str, Any] = {"temperature": 1.0, "top_k": None, "max_length": 20, "seed": 1}


def write(model, vocabulary, count: int, prompt: Sequence[str] = (), **options) -> list[list[str]]:
    """What a model writes after one prompt, by `OPTIONS` but for `options`."""
    (sentences,) = generate(model, vocabulary, [prompt], count, Decoding(**{**OPTIONS, **options}))
    return sentences


def favour(model, ids: list[int], by: float = 50.0):
    with torch.no_grad():
        model.c[ids] += by
    return model


def test_unknown_and_start_are_never_drawn_however_probable(make_model, vocabulary) -> None:
    model = favour(make_model(), [START_ID, vocabulary.unknown_id])
    sentences = write(model, vocabulary, 50)
    assert len(sentences) == 50
    assert {token for sentence in sentences for token in sentence} <= set(vocabulary.tokens[2:-1])


def test_no_sentence_is_empty_even_where_the_end_is_likeliest(make_model, vocabulary) -> None:
    sentences = write(favour(make_model(), [END_ID]), vocabulary, 30)
    assert [len(sentence) for sentence in sentences] == [1] * 30


def test_sentences_are_cut_at_max_length(make_model, vocabulary) -> None:
    sentences = write(favour(make_model(), [END_ID], -1000), vocabulary, 3, max_length=7)
    assert [len(sentence) for sentence in sentences] == [7] * 3


def test_equal_seeds_write_equal_sentences_and_others_write_others(make_model, vocabulary) -> None:
    first = write(make_model(), vocabulary, 10)
    assert first == write(make_model(), vocabulary, 10)
    assert first != write(make_model(), vocabulary, 10, seed=2)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"temperature": 1e-300}])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_one_choice_or_no_temperature_takes_the_likeliest_word_each_time(cell, options, make_model, vocabulary) -> None:
    model = make_model(cell)
    written = write(model, vocabulary, 2, **options)
    expected, word, state = [], START_ID, None
    while len(expected) < OPTIONS["max_length"]:
        logits, state = model.next_logits(torch.tensor([word]), state)
        forbidden = [START_ID, vocabulary.unknown_id] if expected else [START_ID, vocabulary.unknown_id, END_ID]
        logits[0, forbidden] = -torch.inf
        word = int(logits[0].argmax())
        if word == END_ID:
            break
        expected.append(vocabulary.tokens[word])
    assert written == [expected] * 2


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (2.0, None, None), (1.0, 3, None), (1.0, None, 0.5), (2.0, 4, 0.6), (1.0, None, 1e-9)],
)
def test_words_are_drawn_in_proportion_to_their_probability(temperature, top_k, top_p, make_model, vocabulary) -> None:
    model, draws = make_model(), 20_000
    options = {"temperature": temperature, "top_k": top_k, "max_length": 1, "top_p": top_p}
    counted = Counter(sentence[0] for sentence in write(model, vocabulary, draws, **options))
    logits = model.next_logits(torch.tensor([START_ID]))[0][0].double().numpy() / temperature
    weights = np.where(
        np.isin(np.arange(len(vocabulary)), [START_ID, END_ID, vocabulary.unknown_id]), 0, np.exp(logits)
    )
    weights[np.argsort(-weights)[top_k or len(weights) :]] = 0
    weights /= weights.sum()
    if top_p:
        likeliest = np.argsort(-weights)
        fewest = next(count for count in range(1, len(weights)) if weights[likeliest[:count]].sum() >= top_p)
        weights[likeliest[fewest:]] = 0
        weights /= weights.sum()
    for word, share in zip(vocabulary.tokens, weights, strict=True):
        # Five standard deviations, and one draw of rounding.
        assert counted[word] / draws == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / draws) + 1 / draws)


def test_a_prompt_is_read_kept_and_may_be_a_whole_sentence(make_model, vocabulary) -> None:
    prompt = ["is", "zyzzyva"]
    assert write(make_model(), vocabulary, 1, prompt, top_k=1)[0][:2] == prompt
    ended = write(favour(make_model(), [END_ID]), vocabulary, 1, prompt, top_k=1)
    assert ended == [prompt]
    others = [write(make_model(), vocabulary, 1, [word], top_k=1)[0][1:] for word in ("is", "the", "of", ".")]
    assert len({tuple(words) for words in others}) > 1


def test_no_sentences_are_asked_for(make_model, vocabulary) -> None:
    assert write(make_model(), vocabulary, 0) == []


def test_suggestions_are_the_likeliest_words_with_the_models_own_probabilities(make_model, vocabulary) -> None:
    model = favour(make_model(), [START_ID, END_ID, vocabulary.unknown_id], 5.0)
    (suggested,) = suggest(model, vocabulary, [["this", "is"]], 4)
    logits = state = None
    for word in [START_ID, *vocabulary.encode(["this", "is"])]:
        logits, state = model.next_logits(torch.tensor([word]), state)
    assert logits is not None
    probabilities = logits[0].double().softmax(0).tolist()
    ranked = sorted(range(2, len(vocabulary) - 1), key=lambda word: -probabilities[word])[:4]
    assert [word for word, _ in suggested] == [vocabulary.tokens[word] for word in ranked]
    assert [p for _, p in suggested] == pytest.approx([probabilities[word] for word in ranked])


def test_more_suggestions_than_words_are_all_words(make_model, vocabulary) -> None:
    (suggested,) = suggest(make_model(), vocabulary, [[]], 1000)
    assert {word for word, _ in suggested} == set(vocabulary.tokens[2:-1])


PROMPTS = [["is"], [], ["this", "is", "the", "zyzzyva"], [], ["the", "of"], ["."]]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_prompts_that_share_passes_get_what_each_would_get_alone(cell, layers, make_model, vocabulary) -> None:
    model = make_model(cell, layers=layers)
    together = generate(model, vocabulary, PROMPTS, 3, Decoding(**OPTIONS))
    assert together == [write(model, vocabulary, 3, prompt) for prompt in PROMPTS]
    assert together[1] == together[3]  # the same prompt and seed
    for suggested, prompt in zip(suggest(model, vocabulary, PROMPTS, 4), PROMPTS, strict=True):
        logits = state = None
        for word in [START_ID, *vocabulary.encode(prompt)]:
            logits, state = model.next_logits(torch.tensor([word]), state)
        assert logits is not None
        words = [vocabulary.tokens.index(word) for word, _ in suggested]
        assert [p for _, p in suggested] == pytest.approx(logits[0].softmax(0)[words].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("what are n't you understanding about this ? !", "what aren't you understanding about this?!"),
        ("see the note ( in section 2 ) , please .", "see the note (in section 2), please."),
        ("`` so ''", '"so"'),
    ],
)
def test_readable_text_has_its_spaces_where_people_put_them(tokens: str, text: str) -> None:
    assert readable(tokens.split()) == text


WRITTEN = [
    "“quoted” text", "it’s fine", "wait... what?", "She said \"I said 'no'\" twice.", "f(x) = y", "well...", "what?!",
    "He said: ‘no way’, and left.", "see (e.g. this one) and [that].", "“It’s,” she said, “over…”", "(“nested”)",
    "«oui» „ja“", "„ja“, sagte er.", "a <b> c", "x > 0", "foo.bar() is", "the dogs’ toys", "“Why?” “Because.”",
    "“Yes”, he said; ‘yes’.", "¿Qué? ¡No!", "He left... “Gone...” (really...).", "one [two “three”] (four).",
    "don’t, can’t, I’ll, we’re, he’d.", "https://example.com/a", "Mr. Smith's 3:30 p.m. flight.",
    "今天很好。我的iPhone", "O’Brien’s house, ‘O’Brien’s’ house.", "‘I’d’ he said.", "‘no’ and ‘so’, of the dogs’.",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_what_a_person_wrote_comes_back_from_its_tokens(text: str) -> None:
    assert readable(Tokenizer(lowercase=False, by_character=True).tokenize(text)) == text


WORD = st.sampled_from(["some", "words", "don’t", "it's", "wait..."])
PHRASE = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
MARKED = st.tuples(PHRASE, st.sampled_from(["{}", "“{}”", "‘{}’", '"{}"', "({})", "[{}]", "(“{}”)", "«{}»"]))


@given(st.lists(MARKED.map(lambda pair: pair[1].format(pair[0])), min_size=1, max_size=4), st.sampled_from(".?!"))
def test_marks_around_any_words_come_back(parts: list[str], end: str) -> None:
    text = f"So {', and '.join(parts)} went{end}"
    assert readable(Tokenizer(lowercase=False).tokenize(text)) == text


ELIDED = st.tuples(
    st.sampled_from(["O", "o", "D", "d", "L", "l", "j", "qu"]),
    st.sampled_from(["Brien", "neill", "Angelo", "être", "Ávila"]),
    st.sampled_from(["", "’s", "s’", "’d", "’ll’ve"]),
).map(lambda parts: f"{parts[0]}’{parts[1]}{parts[2]}")
APOSTROPHES = ELIDED | st.sampled_from(
    ["rock ’n’ roll", "y’all’re", "the ’90s", "’tis", "’Twas", "I’d’ve", "James’ dog"]
)


@given(st.lists(APOSTROPHES, min_size=1, max_size=4), st.sampled_from(["{}", "“{}”", "({})", "«{}»"]))
def test_apostrophes_come_back_wherever_a_word_has_them(words: list[str], marks: str) -> None:
    text = f"So {marks.format(' and '.join(words))} went."
    assert readable(Tokenizer(lowercase=False).tokenize(text)) == text


def test_readable_text_is_one_line() -> None:
    assert readable(["a\u2028b", "c\nd"]) == "a b c d"
