"""What of a URL may be shown."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from pipeline.runtime.urls import masked, shown, split_chain, told, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host:8080/path", "https://host:8080/path"),
        ("https://user:word@host/path?token=abc#x", "https://host/path"),
        ("https://host/path#token", "https://host/path"),
        ("https://user:w@rd@host", "https://host"),
        ("https://user:p@ssw0rd@host:5000/path", "https://host:5000/path"),
        # Where a login ends depends on whom one asks.
        ("https://user:w?rd@host/path", "https://…"),
        ("https://user:w/rd@host/path", "https://…"),
        ("https://user:word@host/@scope", "https://…"),
        ("https://host:5000/path?to=me@example.org", "https://…"),
        ("https://host/@scope/path?to=me@example.org", "https://host/@scope/path"),
        ("http://[::1]:5000/path?x", "http://[::1]:5000/path"),
        ("https://proxy/https://user:word@host/path?x", "https://proxy/https://host/path"),
        ("HTTPS+ssh://user:word@host", "HTTPS+ssh://host"),
        ("zip://data/*.txt::s3://key:secret@bucket/name.zip", "zip://data/*.txt::s3://bucket/name.zip"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("no answer of https://host/path;token=abc/x;y=1; again", "no answer of https://host/path again"),
        ("jdbc:sqlserver://host:1433;user=me;password=w@rd", "jdbc:sqlserver://…"),
        ("https://host/a;b.csv", "https://host/a;b.csv"),
        ("no answer of https://u:my pass@host/x in time", "no answer of https://… in time"),
        ("no answer of https://my user:word@host", "no answer of https://…"),
        ('url = "https://u:my"pass@host/x"', 'url = "https://…"'),
        ("cannot open //u:word@host/path", "cannot open //host/path"),
        ("https:\\\\u:word@host\\path?token=abc", "https:\\\\host\\path"),
        ("https:/u:word@host or", "https:/host or"),
        ("https:u:word@host or", "https:host or"),
        ("https:////u:word@host", "https:////host"),
        ("https://proxy/?to=https://u:my pass@host/x then", "https://proxy/ then"),
        ("https://host/a//u:word@b", "https://host/a//b"),
        # Hidden although it is no login; see the module.
        ("http://host:80 is down, ask me@host for help", "http://… for help"),
        ("// see me: me@host", "// see me: me@host"),
        ("//see me: me@host", "//…"),
        # Ordinary text.
        ("mail me@host: a: b @ c", "mail me@host: a: b @ c"),
        (r"\\server\share\me@host\a;b#c?.txt", r"\\server\share\me@host\a;b#c?.txt"),
        (r"C:\Users\me@host\a b;c=1.txt: me@host", r"C:\Users\me@host\a b;c=1.txt: me@host"),
        ("git@host:a/b.git: x//y, 3 // 2 # a @ b", "git@host:a/b.git: x//y, 3 // 2 # a @ b"),
        ("http: me@host", "http: me@host"),
        ("http://host:80/a\nmail me@host", "http://host:80/a\nmail me@host"),
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


PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4) | st.text("aB3@:/?#%$&[]\\=+ \"'", min_size=4)


def pieces(password: str, length: int = 4) -> set[str]:
    return {password[at : at + length] for at in range(len(password) - length + 1)}


@given(PASSWORDS, st.booleans(), st.sampled_from(["", ":5432"]), st.sampled_from(["", "zip://*.txt::"]))
def test_no_four_characters_of_a_password_are_shown(password: str, quoted: bool, port: str, members: str) -> None:
    written = quote(password, safe="") if quoted else password
    login, query = f"{members}pg://me:{written}@host{port}/db", f"{members}pg://host{port}/db?password={written}"
    for url in (login, query):
        never = pieces(password) | pieces(written)
        for known in ("zip://*.txt::pg://host:5432/db", "pg://…"):
            never -= pieces(known)
        assert not any(piece in shown(url) for piece in never)
        assert masked({"url": [url, 1]}) == {"url": [shown(url), 1]}
    if quoted:
        assert shown(login) == f"{members}pg://host{port}/db"


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))
BEGUN = st.sampled_from(["https://host/?", "zip://a*.txt::", "see //", "C:\\\\a: "])
AROUND = LINES | st.text('ab:/\\@?#; ."') | BEGUN
USERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/?#\\\n"), max_size=4).map("m{}".format)
STARTS = ["https://", "//", "https:\\\\", "https:/\\", "s3:////", "https:", "http:/", "zip://*.txt::pg://"]


@given(AROUND, st.sampled_from(STARTS), USERS, PASSWORDS.map(lambda text: text.replace("\n", " ")), AROUND)
def test_in_no_text_are_three_characters_of_a_password_shown(
    before: str, start: str, user: str, password: str, after: str
) -> None:
    said = without_secrets(f"{before}{start}{user}:{password}@host/path{after}")
    known = f"{before}{start}…host/path{after}"
    assert not [piece for piece in pieces(password, 3) if piece in said and piece not in known]
    assert not [piece for piece in pieces(password, 3) if piece in masked(said) and piece not in known]


@given(st.text("abCA: @.,;#?\\\"'_=").filter(lambda text: "\\\\" not in text))
def test_text_without_slashes_is_left_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_a_long_text_takes_no_longer_than_reading_it_a_few_times() -> None:
    # Where each character led to a look at all that follow, each of these took minutes.
    for piece in ("a", "//", "a://", "http:", "zip://", "zip://::", ";", ";=", "a:b@", "https://a:b ", "//a?"):
        assert len(without_secrets(piece * 50_000)) <= 50_000 * len(piece)


@given(PASSWORDS, st.booleans())
def test_what_a_library_says_in_pieces_is_left_out(password: str, quoted: bool) -> None:
    url = f"postgresql://me:{quote(password, safe='') if quoted else password}@localhost/db"
    try:
        error: Exception = ValueError(f"no such host: {make_url(url).host!r} for {make_url(url).password}")
    except (ArgumentError, ValueError) as refused:
        error = refused
    said = told(error, url)
    known = told(ValueError("no such host: 'localhost' for ~"), url) + told(ValueError(url), url)
    known += told(ValueError("hidden"), "hidden")
    assert not [piece for piece in pieces(password) if piece in said and piece not in known]


def test_what_a_library_says_without_secrets_is_shown() -> None:
    url = "postgresql://me:hunter22@host/db"
    assert told(ValueError("no  answer\nof the host"), url) == "no answer of the host"
    assert told(ValueError(f"no answer of {url}"), url) == "no answer of postgresql://host/db"
    assert told(ValueError("no host UNTE@host"), url).startswith("what it says is left out")
    assert told(ValueError("not hunter22"), "hunter22").startswith("what it says is left out")


def test_members_of_an_archive_are_told_from_its_url() -> None:
    assert split_chain("zip://a/*.txt::https://me:a::b@host/x.zip") == ("zip://a/*.txt", "https://me:a::b@host/x.zip")
    assert split_chain("zip://b.tar::tar://a::x.tar") == ("zip://b.tar::tar://a", "x.tar")
    assert split_chain("https://me:a::b@host/x") == ("", "https://me:a::b@host/x")
    assert split_chain("corpus") == ("", "corpus")
