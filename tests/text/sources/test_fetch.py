import hashlib
import io
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.sources import fetch
from pipeline.text.sources.fetch import CHUNK, TRIES, Fetcher, digest, mirror_folder
from tests.conftest import PROJECT
from tests.text.sources.conftest import CONTENT, LARGE
from tests.text.sources.liar import lying, message
from tests.text.sources.server import Server, serving

CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
GIT_CHECKSUM = f"git:{hashlib.sha1(b'blob 3000000' + bytes(1) + CONTENT).hexdigest()}"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_whole(server: Server, folder: Path) -> None:
    path = Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin")
    assert path.read_bytes() == CONTENT
    assert path.name == "corpus.bin"
    assert files(folder) == ["corpus.bin"]


@pytest.mark.parametrize("checksum", [CHECKSUM, GIT_CHECKSUM])
def test_what_has_a_checksum_is_fetched_once(server: Server, folder: Path, checksum: str) -> None:
    url, fetcher = f"{server.url}/data/corpus.bin", Fetcher(LARGE, folder)
    path = fetcher.fetch(url, checksum)
    assert fetcher.fetch(url, checksum) == path
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert fetcher.fetch(url, checksum).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_git_names_a_blob_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what is git's name for this?\n")
    named = subprocess.run(["git", "hash-object", "file"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert digest(tmp_path / "file", "git:") == f"git:{named.stdout.strip()}"


def test_what_has_no_checksum_is_fetched_again_as_it_may_have_changed(server: Server, folder: Path) -> None:
    url, fetcher = f"{server.url}/data/corpus.bin", Fetcher(LARGE, folder)
    fetcher.fetch(url)
    server.files["/data/corpus.bin"] = b"new"
    assert fetcher.fetch(url).read_bytes() == b"new"


def test_a_dropped_connection_is_taken_up_where_it_broke(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.dropping["/data/corpus.bin"] = TRIES + 1  # more than would be borne without a new byte
    path = Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin", CHECKSUM)
    assert path.read_bytes() == CONTENT
    ranges = [wanted for _, _, wanted in server.requests]
    starts = [int(str(wanted)[6:-1]) for wanted in ranges[1:]]
    assert (ranges[0], starts[0] // CHUNK, len(starts)) == (None, 1_500_000 // CHUNK, TRIES + 1)
    assert starts == sorted(starts)
    assert f"{server.url}/data/corpus.bin: no connection, or it was lost" in capsys.readouterr().err


@pytest.mark.parametrize("lack", ["ranges", "tags"])
def test_a_server_that_cannot_go_on_sends_all_again(server: Server, folder: Path, lack: str) -> None:
    setattr(server, lack, False)
    server.dropping["/data/corpus.bin"] = 2
    assert Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin", CHECKSUM).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_another_version_is_not_put_behind_the_beginning_of_the_old_one(server: Server, folder: Path) -> None:
    url = f"{server.url}/data/corpus.bin"
    server.dropping["/data/corpus.bin"] = 1
    server.answers["/data/corpus.bin"] = []
    interrupted = Fetcher(LARGE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "TRIES", 1)
        with pytest.raises(InputError, match="1 times in a row"):
            interrupted.fetch(url)
    assert files(folder) == [".corpus.bin.partial", ".corpus.bin.version"]
    new = CONTENT[::-1]
    server.files["/data/corpus.bin"] = new
    assert Fetcher(LARGE, folder).fetch(url).read_bytes() == new
    assert server.requests[-1][2] == f"bytes={1_500_000 // CHUNK * CHUNK}-"


def test_a_whole_partial_is_taken_for_what_it_is(server: Server, folder: Path) -> None:
    """As a kill between the last byte and the renaming leaves it."""
    url, fetcher = f"{server.url}/data/corpus.bin", Fetcher(LARGE, folder)
    path = fetcher.fetch(url)
    path.rename(path.with_name(".corpus.bin.partial"))
    path.with_name(".corpus.bin.version").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert fetcher.fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize("version", [b'"\xff"\n9', '"\u4e00"\n9'.encode(), b'"a"\n\xb2', b'"a"\n' + b"9" * 5000, b""])
def test_what_damage_has_left_there_is_fetched_again(server: Server, folder: Path, version: bytes) -> None:
    url, fetcher = f"{server.url}/data/corpus.bin", Fetcher(LARGE, folder)
    path = fetcher.fetch(url)
    path.rename(path.with_name(".corpus.bin.partial"))
    path.with_name(".corpus.bin.version").write_bytes(version)
    assert fetcher.fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "x"])
def test_a_length_that_is_no_number_is_none(server: Server, folder: Path, length: str) -> None:
    with lying() as liar:
        liar.answers = [lambda asked: message(200, b"text", Content_Length=length)]
        with suppress(InputError):
            assert Fetcher(LARGE, folder).fetch(liar.url).read_bytes() == b"text"


@pytest.mark.parametrize("name", ["n" * 300, "\xe9" * 200], ids=["ASCII", "two bytes a letter"])
def test_a_name_may_be_of_any_length(server: Server, folder: Path, name: str) -> None:
    server.files[f"/{quote(name)}.txt"] = b"text"
    path = Fetcher(LARGE, folder).fetch(f"{server.url}/{quote(name)}.txt")
    assert path.read_bytes() == b"text"
    assert path.name.endswith(f"{name[:50]}.txt")


def test_a_killed_transfer_goes_on_in_the_next_run(server: Server, folder: Path) -> None:
    server.files["/large"] = CONTENT * 10
    script = (
        "import sys, time; from pathlib import Path; from pipeline.text.sources import fetch; fetch.CHUNK = 1 << 14\n"
        "from pipeline.runtime.progress import Bar; Bar.advance = lambda *a, **k: time.sleep(0.01)\n"
        "import pipeline.runtime.progress as p; p._PlainBar.advance = Bar.advance\n"
        f"fetch.Fetcher(1 << 30, Path({str(folder)!r})).fetch({server.url + '/large'!r})"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (partials := list(folder.rglob(".large.partial"))) or partials[0].stat().st_size < 500_000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    held = partials[0].stat().st_size
    assert 0 < held < len(CONTENT) * 10
    assert Fetcher(LARGE, folder).fetch(f"{server.url}/large").read_bytes() == CONTENT * 10
    assert server.requests[-1][2] == f"bytes={held}-"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_for_a_while_is_asked_again(server: Server, folder: Path, status: int) -> None:
    server.answers["/data/corpus.bin"] = [status] * (TRIES - 1)
    assert Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin").read_bytes() == CONTENT
    assert len(server.requests) == TRIES


def test_pauses_grow(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
    server.answers["/data/corpus.bin"] = [500] * TRIES
    with pytest.raises(InputError, match=r"the server answered 500 .*, 5 times in a row"):
        Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin")
    assert pauses == [0.01, 0.02, 0.04, 0.08]


@pytest.mark.parametrize(
    ("path", "max_bytes", "checksum", "message", "requests"),
    [
        ("/nothing", LARGE, None, r"/nothing: the server answered 404 Not Found; correct the URL", 1),
        (
            "/data/corpus.bin",
            LARGE,
            "sha256:" + "0" * 64,
            r"has the checksum sha256:.* wants sha256:00.* or da",
            1,
        ),
        ("/data/corpus.bin", 2_999_999, None, r"is larger than 2,999,999 bytes; .* raise download\.max_bytes", 1),
        ("/endless", 5_000_000, None, r"/endless is larger than 5,000,000 bytes", 1),
        ("/circle", LARGE, None, r"/circle: TooManyRedirects; correct it", 31),
        ("/to-a-file", LARGE, None, r"/to-a-file: InvalidSchema; correct it", 1),
    ],
)
def test_what_fails_for_good_is_one_line_and_leaves_nothing(
    server: Server, folder: Path, path: str, max_bytes: int, checksum: str | None, message: str, requests: int
) -> None:
    server.redirects = {"/circle": "/circle", "/to-a-file": "file:///etc/passwd"}
    with pytest.raises(InputError, match=message) as error:
        Fetcher(max_bytes, folder).fetch(f"{server.url}{path}", checksum)
    assert "\n" not in str(error.value)
    assert len(server.requests) == requests
    assert [name for name in files(folder) if not name.endswith(".version")] == []


def test_a_redirect_is_followed(server: Server, folder: Path) -> None:
    server.redirects["/old"] = "/data/corpus.bin"
    assert Fetcher(LARGE, folder).fetch(f"{server.url}/old").read_bytes() == CONTENT


def test_nobody_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.0)
    with serving() as server:
        url = server.url
    with pytest.raises(InputError, match=r"no connection, .* 5 times in a row; try later, .* RNNLM_MIRROR names"):
        Fetcher(LARGE, folder).fetch(f"{url}/file")


def test_other_file_systems(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus.bin", CONTENT)
    assert Fetcher(LARGE, folder).fetch("memory://corpus.bin", CHECKSUM).read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"memory://nothing: there is no such file"):
        Fetcher(LARGE, folder).fetch("memory://nothing")
    with pytest.raises(InputError, match=r"gopher://host/file cannot be opened: Protocol not known"):
        Fetcher(LARGE, folder).fetch("gopher://host/file")


def test_a_local_file_is_used_where_it_lies(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a file.txt").write_bytes(CONTENT)
    fetcher = Fetcher(LARGE, folder)
    assert fetcher.fetch(str(tmp_path / "a file.txt"), CHECKSUM) == tmp_path / "a file.txt"
    assert fetcher.fetch(f"file://{tmp_path}/a%20file.txt") == tmp_path / "a file.txt"
    with pytest.raises(InputError, match=r"a file\.txt has the checksum sha256:"):
        fetcher.fetch(str(tmp_path / "a file.txt"), "sha256:" + "0" * 64)
    assert not folder.exists()


def test_a_mirror_comes_first(
    server: Server, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, url = tmp_path / "mirror", f"{server.url}/data/corpus.bin"
    (mirror / server.url[7:] / "data").mkdir(parents=True)
    monkeypatch.setenv("RNNLM_MIRROR", str(mirror))
    fetcher = Fetcher(LARGE, folder, mirror_folder())
    (mirror / "corpus.bin").write_bytes(CONTENT)
    assert fetcher.fetch(url, CHECKSUM) == mirror / "corpus.bin"
    (mirror / "corpus.bin").rename(mirror / server.url[7:] / "corpus.bin")
    assert fetcher.fetch(url, CHECKSUM) == mirror / server.url[7:] / "corpus.bin"
    (mirror / server.url[7:] / "corpus.bin").rename(mirror / "corpus.bin")
    assert server.requests == []
    assert fetcher.fetch(url).is_relative_to(folder)  # a bare name is no proof
    (mirror / server.url[7:] / "data" / "corpus.bin").write_bytes(b"as in the URL")
    assert fetcher.fetch(url).read_bytes() == b"as in the URL"
    (mirror / "corpus.bin").write_bytes(b"of another")
    assert fetcher.fetch(url, CHECKSUM).read_bytes() == CONTENT
    assert "does not have the checksum" in capsys.readouterr().err
    (tmp_path / "secret").write_text("secret")
    assert fetcher.fetch(url.replace("/data", "/data/../../../secret/../data")).read_bytes() != b"secret"
    monkeypatch.setenv("RNNLM_MIRROR", str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"RNNLM_MIRROR names .*nothing, which is not a folder"):
        Fetcher(LARGE, folder, mirror_folder()).fetch(url)


def test_a_token_can_come_from_the_environment(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abc")
    fetcher = Fetcher(LARGE, folder)
    assert fetcher.fetch(f"{server.url}/data/corpus.bin?token=$MY_TOKEN").read_bytes() == CONTENT
    assert server.requests[-1][1] == "/data/corpus.bin?token=abc"
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(InputError, match=r"/data/corpus\.bin: the environment variable MY_TOKEN is not set"):
        fetcher.fetch(f"{server.url}/data/corpus.bin?token=${{MY_TOKEN}}")


@pytest.mark.parametrize(
    "path", ["/..%2F..%2Fx", "/a/..", "/", "", "/%00", "/a%2F..%2F..%2F..%2Fx", "/%2e%2e", "/a b;c"]
)
def test_no_name_leads_out_of_the_folder(server: Server, folder: Path, path: str) -> None:
    # On the way a path may be written otherwise: "/a/.." as "/".
    for written in (path, path or "/", "/", "/%2e%2e", "/..", "/a%20b;c"):
        server.files[written] = b"text"
    found = Fetcher(LARGE, folder).fetch(f"{server.url}{path}")
    assert found.parent.parent == folder
    assert found.read_bytes() == b"text"


def test_secrets_are_not_shown(server: Server, folder: Path) -> None:
    with pytest.raises(InputError, match=r"holds a login, .*put it into ~/\.netrc") as error:
        Fetcher(LARGE, folder).fetch("https://user:word@host/path")
    assert "word" not in str(error.value)
    server.answers["/data/corpus.bin"] = [500] * TRIES + [404]
    for _ in range(2):
        with pytest.raises(InputError) as error:
            Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin?token=abc")
        assert "abc" not in str(error.value)


def test_of_a_url_with_a_changing_query_a_few_copies_are_kept(server: Server, folder: Path) -> None:
    url = f"{server.url}/data/corpus.bin"
    kept = {Fetcher(LARGE, folder).fetch(f"{url}?signature={number}") for number in range(fetch.COPIES + 5)}
    assert sum(path.exists() for path in kept) == fetch.COPIES
    one = Fetcher(LARGE, folder)
    used = {one.fetch(f"{url}?part={number}") for number in range(fetch.COPIES + 5)}
    assert all(path.exists() for path in used)  # a corpus of many parts needs all of them
    assert not any(path.exists() for path in kept)


def test_a_new_value_of_a_variable_makes_no_new_copy(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for token in ("one", "two"):
        monkeypatch.setenv("MY_TOKEN", token)
        found.add(Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin?token=$MY_TOKEN"))
        assert server.requests[-1][1].endswith(f"?token={token}")
    assert len(found) == 1


def test_a_dollar_inside_a_token_is_no_variable(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a$bcdef")
    for query, sent in (("?t=ab$cdef", "ab$cdef"), ("?t=$MY_TOKEN", "a$bcdef"), ("?t=x${MY_TOKEN}y", "xa$bcdefy")):
        Fetcher(LARGE, folder).fetch(f"{server.url}/data/corpus.bin{query}")
        assert server.requests[-1][1] == f"/data/corpus.bin?t={sent}"


PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=12) | st.text(
    "aB3@:/?#%$&[]{}\\=+ \"'", min_size=4, max_size=12
)
PLACES = [
    "{s}://me:{p}@127.0.0.1:1/corpus.csv",
    "{s}://127.0.0.1:1/corpus.csv?token={p}",
    "{s}://127.0.0.1:1/a.csv#{p}",
]


def pieces(password: str) -> set[str]:
    spelt = {password, quote(password, safe="")}
    return {word[at : at + 4] for word in spelt for at in range(len(word) - 3)}


def told_of(url: str, **variables: str) -> str:
    """All that is printed, raised and named when a URL is fetched in vain."""
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stderr(said),
        redirect_stdout(said),
        tempfile.TemporaryDirectory() as folder,
    ):
        patch.setattr(fetch, "TRIES", 2)
        patch.setattr(fetch, "FIRST_PAUSE", 0.0)
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(InputError) as error:
            Fetcher(LARGE, Path(folder)).fetch(url)
        said.write(f"{error.value}\n")
        said.writelines(path.name for path in Path(folder).rglob("*"))
    return said.getvalue()


@settings(deadline=None, max_examples=300)
@given(PASSWORDS, st.sampled_from(PLACES), st.sampled_from(["http", "https", "ftp", "gopher"]), st.booleans())
def test_no_four_characters_of_a_password_are_shown(password: str, place: str, scheme: str, quoted: bool) -> None:
    assume(not re.fullmatch(r"\$(\w+|\{\w+\})", password))  # the name of a variable
    said = told_of(place.format(s=scheme, p=quote(password, safe="") if quoted else password))
    said += told_of(place.format(s=scheme, p="$MY_PASSWORD"), MY_PASSWORD=password.replace("\0", ""))
    # What would stand there with any password gives nothing away.
    always = told_of(place.format(s=scheme, p="~~~~"))
    assert not [piece for piece in pieces(password) if piece in said and piece not in always]
