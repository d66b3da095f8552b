"""A file over HTTP where the server answers what it should not: it is one version, whole, or one line says why not."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.runtime.errors import InputError
from pipeline.text.sources import fetch
from pipeline.text.sources.fetch import CHUNK, Fetcher
from tests.text.sources.conftest import LARGE
from tests.text.sources.liar import TRICKLES, Answer, Asked, lying, message, trickling
from tests.text.sources.server import Server


@pytest.mark.parametrize("kind", TRICKLES)
def test_a_server_that_trickles_is_given_up(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(fetch, "SLOWEST", 0.1)
    with trickling(kind) as server, pytest.raises(InputError, match=r"silent, for 0\.1 seconds, 5 times in a row; try"):
        Fetcher(LARGE, folder).fetch(f"{server.url}/corpus.txt")


TEXTS = {f'"{name}"': b"".join(b"%c%06d\n" % (name.encode(), line) for line in range(40_000)) for name in "ab"}
FIRST, SECOND = TEXTS
SIZE = len(TEXTS[FIRST])  # in bytes, several chunks of it


def whole(tag: str, cut: int = SIZE, **headers: object) -> Answer:
    """All of a version, or its first bytes, whatever was asked."""
    headers = {"ETag": tag, "Content_Length": SIZE} | headers
    return lambda asked: message(200, TEXTS[tag][:cut], **headers)


def part(tag: str, shift: int = 0, cut: int = SIZE, **headers: object) -> Answer:
    """The rest of a version, from `shift` bytes after the place that was asked for, up to byte `cut`; honestly told."""

    def answer(asked: Asked) -> bytes:
        start = min(max(0, (asked.start or 0) + shift), cut - 1)
        span = f"bytes {start}-{cut - 1}/{SIZE}"
        return message(206, TEXTS[tag][start:cut], **{"ETag": tag, "Content_Range": span} | headers)

    return answer


def chunked(tag: str, cut: int, ended: bool) -> Answer:
    """Bytes of a version in HTTP's chunks, whose end is missing unless `ended`."""
    body = b"%x\r\n%b\r\n" % (cut, TEXTS[tag][:cut]) + b"0\r\n\r\n" * ended
    return lambda asked: message(200, body, ETag=tag, Content_Length=None, Transfer_Encoding="chunked")


tags = st.sampled_from([FIRST, SECOND])
shifts = st.sampled_from([0, -CHUNK, CHUNK, -1, 1, -SIZE, SIZE])
cuts = st.sampled_from([1, CHUNK, CHUNK + 1, 2 * CHUNK + 5, SIZE - 1, SIZE])
# Each answer may be wrong, but what its headers say of its own bytes is true.
ANSWERS = st.one_of(
    st.builds(whole, tags, cuts),
    st.builds(whole, tags, ETag=st.sampled_from([None, 'W/"weak"'])),
    st.builds(whole, tags, st.just(CHUNK), ETag=st.none(), Last_Modified=st.just("Thu, 26 Nov 2026 00:00:00 GMT"),
              Date=st.sampled_from([None, "Thu, 26 Nov 2026 00:00:00 GMT"])),
    st.builds(part, tags, shifts, cuts),
    st.builds(part, tags, shifts, Content_Range=st.sampled_from([None, "bytes */9", "lines 1-2/3", "bytes 5-1/x"])),
    st.builds(chunked, tags, cuts, st.just(False)),
    st.builds(chunked, tags, st.just(SIZE), st.just(True)),
    st.sampled_from([204, 206, 301, 416, 429, 500]).map(lambda status: lambda asked: message(status, b"")),
)  # fmt: skip


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(ANSWERS, min_size=1, max_size=8))
def test_whatever_a_server_answers_the_file_is_one_version_whole_or_one_line(
    answers: list[Answer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lying() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "FIRST_PAUSE", 0.0)
        server.answers = answers
        folder = tmp_path_factory.mktemp("downloads")
        with suppress(InputError):
            assert Fetcher(LARGE, folder).fetch(server.url).read_bytes() in TEXTS.values()
        # What was left there by a failure does not spoil what an honest server sends.
        server.answers = [lambda asked: (part if asked.version == SECOND else whole)(SECOND)(asked)]
        assert Fetcher(LARGE, folder).fetch(server.url).read_bytes() == TEXTS[SECOND]


@pytest.mark.parametrize(
    "answer",
    [
        part(FIRST, -CHUNK),
        part(FIRST, CHUNK),
        part(FIRST, cut=SIZE - 1),
        part(SECOND),
        part(FIRST, Content_Range=None),
        part(FIRST, Content_Range=f"bytes {CHUNK}-{SIZE}/{SIZE + 1}"),
    ],
    ids=["earlier", "later", "not to the end", "other version", "nothing said", "other size"],
)
def test_another_part_than_asked_for_is_not_used(server: Server, folder: Path, answer: Answer) -> None:
    with lying() as liar:
        liar.answers = [whole(FIRST, CHUNK), answer, whole(FIRST)]
        assert Fetcher(LARGE, folder).fetch(liar.url).read_bytes() == TEXTS[FIRST]
        assert liar.asked == [Asked(None, ""), Asked(CHUNK, FIRST), Asked(None, "")]


def test_the_right_part_is_put_behind_what_is_there(server: Server, folder: Path) -> None:
    with lying() as liar:
        liar.answers = [whole(FIRST, CHUNK), part(FIRST)]
        assert Fetcher(LARGE, folder).fetch(liar.url).read_bytes() == TEXTS[FIRST]
        assert liar.asked == [Asked(None, ""), Asked(CHUNK, FIRST)]


def test_a_date_of_the_same_second_names_no_version(server: Server, folder: Path) -> None:
    dates = {"ETag": None, "Last_Modified": "Thu, 26 Nov 2026 00:00:00 GMT"}
    for now, resumed in (("Thu, 26 Nov 2026 00:00:00 GMT", None), ("Thu, 26 Nov 2026 00:00:01 GMT", CHUNK)):
        with lying() as liar:
            liar.answers = [whole(FIRST, CHUNK, Date=now, **dates), whole(FIRST)]
            assert Fetcher(LARGE, folder).fetch(liar.url).read_bytes() == TEXTS[FIRST]
            assert liar.asked[1].start == resumed
