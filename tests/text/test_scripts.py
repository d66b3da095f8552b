"""Text without spaces between words is known, cut at its own marks and read by character."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference.generation import readable
from pipeline.text.params import BY_CHARACTER
from pipeline.text.scripts import is_unspaced, unspaced_characters
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.tokenizer import Tokenizer

SPLITTER, TOKENIZER = SentenceSplitter(BY_CHARACTER), Tokenizer(lowercase=True, by_character=True)
CHINESE, THAI, JAPANESE = (
    "今天天气很好。我们去公园散步",
    "เราไปเดินเล่นที่สวนหมาวิ่งข้ามเนินเขา",
    "私は東京に住んでいます。彼は学生です",
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("今天很好。因为晚了!回家？ 好", ["今天很好。", "因为晚了!回家？", "好"]),
        ("他说：「好。」然后走了。\n\n“真的吗？”她问。", ["他说：「好。」", "然后走了。", "“真的吗？”", "她问。"]),
        ("It costs 3.50 here. Yes! 好…… 对", ["It costs 3.50 here.", "Yes!", "好……", "对"]),
        ("เราไป", ["เราไป"]),
        ("", []),
    ],
)
def test_full_width_marks_end_sentences(text: str, sentences: list[str]) -> None:
    assert SPLITTER.split(text) == sentences


def test_characters_are_tokens_and_other_words_stay_whole() -> None:
    assert TOKENIZER.tokenize("我的iPhone 15，很好。") == ["我", "的", "iphone", "15", "，", "很", "好", "。"]
    assert TOKENIZER.tokenize("한국어 is Korean.") == ["한국어", "is", "korean", "."]


@given(st.text(st.sampled_from("今天很好。，「」？ไปเดิน่東がカ𠀀Ａ"), min_size=1))
def test_characters_come_back_without_blanks(text: str) -> None:
    assert readable(TOKENIZER.tokenize(text)) == text.lower()


def seen(text: str) -> bool:
    return is_unspaced(len(text), *unspaced_characters(text))


@pytest.mark.parametrize("text", [CHINESE, THAI, JAPANESE, f"He said {CHINESE}", "我用 iPhone 打电话给他"])
def test_text_without_spaces_is_known(text: str) -> None:
    assert seen(text)


@given(st.lists(st.text(st.sampled_from("今天很好我们东がカ"), min_size=1, max_size=5), min_size=1))
def test_short_lines_of_it_are_known_too(lines: list[str]) -> None:
    counts = np.array([(len(line), *unspaced_characters(line)) for line in lines]).sum(axis=0).tolist()
    assert is_unspaced(*counts)


@pytest.mark.parametrize(
    "text",
    ["今天 天气 很 好 。 我们 去 公园 散步", "เรา ไป เดินเล่น ที่ สวน", "한국어는 띄어쓰기가 있습니다",
     "ذهبنا إلى السوق", "x" * 90 + CHINESE[:10], ""],
)  # fmt: skip
def test_text_with_spaces_is_not_taken_for_it(text: str) -> None:
    assert not seen(text)
