import pytest

from pipeline.inference.request import MOST_WORDS, Options, check_request, read_request
from pipeline.runtime.errors import InputError

JSON = "application/json"


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=UTF-8"])
def test_a_request_is_read_with_its_defaults(content_type: str) -> None:
    request = read_request(b'{"inputs": ["a", ""], "params": {"task": "suggest"}}', content_type)
    assert request.inputs == ["a", ""]
    assert request.params == Options(task="suggest")


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"inputs": []}', None, "send JSON with the header"),
        (b'{"inputs": []}', "text/csv", "got text/csv"),
        (b"{", JSON, "Invalid JSON"),
        (b"[" * 100_000, JSON, "Invalid JSON"),
        (b'{"inputs": ["\xff"]}', JSON, "Invalid JSON"),
        (b"{}", JSON, "inputs: is missing"),
        (b'{"inputs": [1]}', JSON, "inputs.0: Input should be a valid string"),
        (b'{"inputs": [], "params": {"tusk": "score"}}', JSON, "params.tusk: unknown; there are task, count"),
        (b'{"inputs": [], "dataframe_split": {}}', JSON, "dataframe_split: unknown; there are inputs, params"),
        (b'{"inputs": [], "params": {"count": 1.5, "seed": -1}}', JSON, "(and 1 more)"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(body: bytes, content_type: str | None, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        read_request(body, content_type)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_words_to_generate_are_counted_together() -> None:
    params = {"task": "generate", "count": 10, "max_length": 100}
    texts = ["a"] * (MOST_WORDS // 1000)
    check_request(texts, params)
    with pytest.raises(InputError, match=f"at most {MOST_WORDS} are generated"):
        check_request([*texts, "a"], params)
