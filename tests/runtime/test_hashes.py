from pipeline.runtime.hashes import fingerprint


def test_equal_values_have_one_fingerprint_in_any_order_and_others_another() -> None:
    value = {"a": 1, "b": {"c": [1.5, "x"], "d": None}}
    assert fingerprint(value) == fingerprint({"b": {"d": None, "c": [1.5, "x"]}, "a": 1})
    others = [{"a": 1}, value | {"a": "1"}, value | {"a": 2}, {"b": {"c": ["x", 1.5], "d": None}, "a": 1}]
    assert len({fingerprint(other) for other in (value, *others)}) == 5
