import pytest
from pydantic import ValidationError

from pipeline.runtime.section import Section


class Example(Section):
    share: float
    count: int


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"share": 0.5}, "missing"),
        ({"share": 0.5, "count": 1, "other": 2}, "extra_forbidden"),
        ({"share": 0.5, "count": "1"}, "int_type"),
        ({"share": 0.5, "count": 1.5}, "int_type"),
        ({"share": "0.5", "count": 1}, "float_type"),
        ({"share": True, "count": 1}, "float_type"),
        ({"share": float("inf"), "count": 1}, "finite_number"),
        ({"share": float("nan"), "count": 1}, "finite_number"),
    ],
)
def test_nothing_is_filled_in_ignored_or_converted(values: dict[str, object], kind: str) -> None:
    assert Example.model_validate({"share": 1, "count": 2}) == Example(share=1.0, count=2)
    with pytest.raises(ValidationError) as refused:
        Example.model_validate(values)
    assert [error["type"] for error in refused.value.errors()] == [kind]


def test_what_was_read_stays_as_it_was() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example(share=1.0, count=2).count = 3  # pyrefly: ignore[read-only]
