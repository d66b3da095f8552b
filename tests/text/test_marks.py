"""Special tokens of other tools are what they stand for in tokenized text, and noticed in other text."""

import pytest

from pipeline.text.marks import holds_marks, sentences_of


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("<s> the <UNK> sat </s>", [["the", None, "sat"]]),
        ("one <eos> two [UNK] <eos>", [["one"], ["two", None]]),
        ("[CLS] a <unknown> b [SEP] [PAD] [PAD]", [["a", None, "b"]]),
        ("one <|endoftext|> <PAD> two [MASK] __eou__", [["one"], ["two", None]]),
        ("[BOS] a <|unk|> b <EOD> __UNK__ [EOS]", [["a", None, "b"], [None]]),
        ("a < b <br> [1]", [["a", "<", "b", "<br>", "[1]"]]),
        ("__init__ <p> |x| <||> [s] [a] __", [["__init__", "<p>", "|x|", "<||>", "[s]", "[a]", "__"]]),
    ],
)
def test_marks_are_no_words(line: str, sentences: list[list[str | None]]) -> None:
    assert [sentence for sentence in sentences_of(line.split()) if sentence] == sentences


def test_marks_are_noticed_between_spaces_only() -> None:
    assert all(map(holds_marks, ["a <unk> b", "<S> a", "a\n</s>", "[CLS] a", "a <PAD>", "an __eou__ end"]))
    assert all(map(holds_marks, ["the end.<|endoftext|>The", "<|im_start|>user"]))
    assert not any(map(holds_marks, ["a<unk>b", "<s>struck</s>", "list[s]", "[1] <b>", "a |x| b", "__init__", "<||>"]))
