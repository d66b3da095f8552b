"""What of a URL may be shown."""

import pytest

from pipeline.runtime.urls import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host:8080/path", "https://host:8080/path"),
        ("https://user:word@host/path?token=abc#x", "https://host/path"),
        ("https://host/path#token", "https://host/path"),
        ("https://user:w@rd@host", "https://host"),
        ("https://user:w?rd@host/path", "https://host/path"),
        ("zip://data/*.txt::s3://key:secret@bucket/name.zip", "zip://data/*.txt::s3://bucket/name.zip"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("is it up? (mail me@host) or not?", "is it up? (mail me@host) or not?"),
        ('{"url": "https://host/a?key=1", "split": "train"}', '{"url": "https://host/a", "split": "train"}'),
        (
            "no answer of https://u:p@a/x?k=1 or http://b/y?k=2 in time",
            "no answer of https://a/x or http://b/y in time",
        ),
    ],
)
def test_logins_queries_and_fragments_are_left_out_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
