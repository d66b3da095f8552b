"""N-best lists: order, scores, features, and lines that are none."""

import numpy as np
import pytest

from pipeline.inference.nbest import rescored
from pipeline.runtime.errors import InputError

LIST = [
    "b ||| of the is ||| AM= -1 ||| -1.5",
    "b ||| This is the ||| ||| -1.75 ||| 0-0",
    "a ||| is ||| ||| -3",
    "a |||  ||| LM= 2 ||| -9",
    "c ||| the ||| ||| 0",
]


def rows(predictor, parts: list[list[str]], weight: float) -> list:
    return [row for part in rescored(predictor, parts, weight, "list.txt") for row in part]


@pytest.mark.parametrize("context", ["sentence", "stream"])
def test_hypotheses_of_an_input_are_sorted_by_score_and_weighted_log_probability(context: str, make_predictor) -> None:
    predictor = make_predictor(context=context)
    texts = [line.split("|||")[1] for line in LIST]
    # Each for itself, as they are alternatives, also where a model reads running text.
    log_probability = -np.concatenate([predictor.nats(predictor.encode(predictor.tokens([text]))) for text in texts])
    for weight in (0.25, 100):
        found = rows(predictor, [LIST], weight)
        totals = [
            float(line.split("|||")[3]) + weight * value for line, value in zip(LIST, log_probability, strict=True)
        ]
        expected = []
        for first, last in ((0, 2), (2, 4), (4, 5)):  # lines of one ID side by side
            expected += sorted(range(first, last), key=lambda index: -totals[index])
        assert [row.text for row in found] == [texts[index].strip() for index in expected]
        assert [row.score for row in found] == [totals[index] for index in expected]
        assert [row.log_probability for row in found] == log_probability[expected].tolist()
        (moved,) = [row for row in found if row.text == "This is the"]
        assert moved.row() == f"b ||| This is the ||| rnnlm= {log_probability[1]:.6f} ||| {totals[1]:.6f} ||| 0-0"
    assert len({tuple(row.text for row in rows(predictor, [LIST], weight)) for weight in (0.001, 100)}) == 2


def test_with_weight_0_all_keep_their_order_and_score(make_predictor) -> None:
    unsorted = [*LIST[:2], "b ||| is ||| ||| 7"]
    assert [row.score for row in rows(make_predictor(), [unsorted], 0)] == [-1.5, -1.75, 7]


def test_lists_are_the_same_in_whatever_parts_they_come(make_predictor) -> None:
    predictor = make_predictor()
    together = rows(predictor, [LIST], 1)
    assert together == rows(predictor, [LIST[:1], LIST[1:3], LIST[3:]], 1)
    given = rescored(predictor, iter([LIST[:3], LIST[3:]]), 1, "-")
    assert {row.id for row in next(given)} == {"b"}  # before the next part is asked for


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("b ||| is", r"^list\.txt, line 6: 2 fields; a line of an n-best list is `ID \|\|\| hypothesis "),
        ("b ||| is ||| ||| good", r"^list\.txt, line 6: the score must be a number, got 'good'"),
        ("b ||| is ||| ||| nan", r"^list\.txt, line 6: the score must be a number, got 'nan'"),
        (
            "d ||| is ||| A= 1 rnnlm= -4 ||| 1",
            r"^list\.txt, line 6: the features have `rnnlm=` already; rescore the list",
        ),
        (
            "b ||| is ||| ||| 1",
            r"^list\.txt, line 6: ID 'b' comes back after 'c'; put the lines of an ID side by side$",
        ),
    ],
)
def test_a_line_that_is_none_is_named(make_predictor, line: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        rows(make_predictor(), [LIST, [line]], 1)


def test_no_lines_are_no_lists(make_predictor) -> None:
    assert rows(make_predictor(), [], 1) == []
