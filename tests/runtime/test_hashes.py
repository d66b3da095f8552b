from pathlib import Path

from pipeline.runtime.hashes import fingerprint, sha256


def test_equal_values_have_one_fingerprint_in_any_order_and_others_another() -> None:
    value = {"a": 1, "b": {"c": [1.5, "x"], "d": None}}
    assert fingerprint(value) == fingerprint({"b": {"d": None, "c": [1.5, "x"]}, "a": 1})
    others = [{"a": 1}, value | {"a": "1"}, value | {"a": 2}, {"b": {"c": ["x", 1.5], "d": None}, "a": 1}]
    assert len({fingerprint(other) for other in (value, *others)}) == 5


def test_a_file_has_the_digest_that_the_standard_gives(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
