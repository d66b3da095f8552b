"""URLs as they may be shown, logged and recorded: without what may be secret in them.

By the standard a login ends at the last @ before the first slash, question mark or hash. People paste passwords with
these in them, and libraries disagree about where such a password ends (SQLAlchemy's own hiding shows `ssw0rd` of
`p@ssw0rd`). So where an @ further on may end a login too, nothing is shown but the scheme.
"""

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

SHORTEST_SECRET = 4  # characters in a row that give a secret away
IN_ARCHIVE = re.compile(r"((?:(?:zip|tar)://(?:(?!::).)*::)*)(.*)", re.DOTALL)
URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"]*")


def split_chain(url: str) -> tuple[str, str]:
    """Both sides of `zip://MEMBERS::URL`, fsspec's notation for members of an archive; of another URL "" and itself."""
    match = IN_ARCHIVE.fullmatch(url)
    assert match
    return match[1].removesuffix("::"), match[2]


def shown(url: str) -> str:
    """A URL, or a path, cut to scheme, host and path: no login, and no query or fragment with a token."""
    members, location = split_chain(url)
    scheme, mark, rest = location.partition("://")
    if not mark:
        return url
    login, place, _ = _parts(rest)
    # What a proxy or a converter is asked for is a URL in the path of another.
    path = place if login else URL_IN_TEXT.sub(lambda match: shown(match[0]), place)
    return f"{members}::{scheme}://{path}" if members else f"{scheme}://{path}"


def has_login(url: str) -> bool:
    """Whether there is, or may be, a user's name or a password in a URL."""
    return bool(_parts(split_chain(url)[1].partition("://")[2])[0])


def without_secrets(text: str) -> str:
    """`text` with every URL in it as `shown` has it; a URL ends at white space or a double quote."""
    return URL_IN_TEXT.sub(lambda match: shown(match[0]), text)


def masked(value: Any) -> Any:
    """What YAML or JSON can hold, with every URL in it as `shown` has it."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str):
        return shown(value) if URL_IN_TEXT.match(value) else without_secrets(value)
    return value


def told(error: Exception, *urls: str) -> str:
    """What a library's error says, on one line: without secrets of URLs, and nothing where `urls` have one in it.

    Libraries quote a URL in pieces, such as a host's name that is half a password.

    Args:
        urls: those that the error may be about; or passwords themselves.
    """
    text = without_secrets(" ".join(str(error).split()))
    folded = text.casefold()
    for secret in (found.casefold() for url in urls for found in _secrets(url)):
        if any(secret[at : at + SHORTEST_SECRET] in folded for at in range(len(secret) - SHORTEST_SECRET + 1)):
            return "what it says is left out, as a part of a password or token is in it"
    return text


def _parts(rest: str) -> tuple[str, str, str]:
    """What follows `://`, in three: what may be a login, host and path, and what follows these."""
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :] and re.search("[@:]", authority):
        return rest, "…", ""
    login, _, place = rest.rpartition("@") if "@" in authority else ("", "", rest)
    place, *after = re.split(r"[?#]", place, maxsplit=1)
    return login, place, "".join(after)


def _secrets(url: str) -> set[str]:
    """Passwords and tokens of a URL, in each spelling; of a text that is no URL all of it."""
    _, mark, rest = split_chain(url)[1].partition("://")
    if not mark:
        return {url}
    login, _, after = _parts(rest)
    found = {login.partition(":")[2] or login, *(part.partition("=")[2] or part for part in re.split("[&#]", after))}
    return {spelt for text in found for spelt in (text, unquote(text), unquote_plus(text), quote(text, safe=""))}
