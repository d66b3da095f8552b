"""URLs as they may be shown, logged and recorded: without what may be secret in them.

By the standard a login ends at the last @ before the first slash, question mark or hash. People paste passwords with
these in them, and with blanks; browsers read backslashes as slashes, and need none after `https:`; libraries disagree
about where a login ends (SQLAlchemy's own hiding shows `ssw0rd` of `p@ssw0rd`). So where an @ further on in a line may
end a login too, nothing is shown up to it but the scheme. That also hides what is none: of `http://host:80 is down,
ask me@host` it leaves `http://…`.
"""

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

SHORTEST_SECRET = 4  # characters in a row that give a secret away
IN_ARCHIVE = re.compile(r"((?:(?:zip|tar)://(?:(?!::).)*::)*)(.*)", re.DOTALL)
# Each is written so that it looks at no character of a long text more than a few times.
_MEMBERS = r"(?:(?:zip|tar)://(?:(?!::|://)[^\s\"])*::)+[a-z][a-z0-9+.-]*"
_WEB = r"(?:https?|wss?|ftps?):(?!\s)[/\\]*"  # browsers know these without the slashes
_START = rf"(?:(?:{_MEMBERS})?:[/\\]{{2,}}|{_WEB})"
_PARAMETER = r"[?#]|;(?=[^\s\"/;]*=)"  # begins a query, a fragment, or the parameter of a part of the path
URL = re.compile(rf"[a-z][a-z0-9+.-]*:[/\\]{{2,}}|{_WEB}", re.IGNORECASE)
BEFORE_LOGIN = re.compile(rf"{_START}|[/\\]{{2,}}(?!\s)", re.IGNORECASE)
PLAIN_LOGIN = re.compile(r"[^\s\"/?#;\\]*")
PARAMETER = re.compile(_PARAMETER)
URL_IN_TEXT = re.compile(rf"({_START}(?:(?!{_PARAMETER})[^\s\"])*)[^\s\"]*", re.IGNORECASE)


def split_chain(url: str) -> tuple[str, str]:
    """Both sides of `zip://MEMBERS::URL`, fsspec's notation for members of an archive; of another URL "" and itself."""
    match = IN_ARCHIVE.fullmatch(url)
    assert match
    return match[1].removesuffix("::"), match[2]


def shown(url: str) -> str:
    """A URL, or a path, cut to scheme, host and path: no login, and no query, parameter or fragment with a token."""
    members, location = split_chain(url)
    before, login, place = _parts(location)
    place = place if PLAIN_LOGIN.fullmatch(login) else "…"
    if URL.match(location):
        place = before + place
        before, place = "", PARAMETER.split(place, maxsplit=1)[0]
    return f"{members}::{before}{place}" if members else before + place


def has_login(url: str) -> bool:
    """Whether there is, or may be, a user's name or a password in a URL."""
    return bool(_parts(split_chain(url)[1])[1])


def without_secrets(text: str) -> str:
    """`text` with every URL in it as `shown` has it; it ends at white space or a double quote, a login in its line."""
    return re.sub(r"[^\n]+", lambda line: _line_without_secrets(line[0]), text)


def masked(value: Any) -> Any:
    """What YAML or JSON can hold, with every URL in it as `shown` has it."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str):
        return shown(value) if URL.match(value) else without_secrets(value)
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


def _line_without_secrets(line: str) -> str:
    before, login, place = _parts(line)
    if not PLAIN_LOGIN.fullmatch(login):
        place = "…" + re.sub(r"^[^\s\"]*", "", place)
    return URL_IN_TEXT.sub(r"\1", before + place)


def _parts(text: str) -> tuple[str, str, str]:
    """A URL, or a line with URLs, in three: what is before the first login, what may be one, what follows its @."""
    last = text.rfind("@")
    for start in BEFORE_LOGIN.finditer(text) if last >= 0 else ():
        authority = re.compile(r"[^/?#\\]*").match(text, start.end())
        if start.end() <= last and authority and re.search("[@:]", authority[0]):
            return text[: start.end()], text[start.end() : last], text[last + 1 :]
    return "", "", text


def _secrets(url: str) -> set[str]:
    """Passwords and tokens of a URL, in each spelling; of a text that is no URL all of it."""
    location = split_chain(url)[1]
    if not URL.match(location):
        return {url}
    _, login, place = _parts(location)
    parameters = PARAMETER.split(place, maxsplit=1)[1:]
    given = [part for after in parameters for part in re.split("[&#;]", after)]
    found = {login.partition(":")[2] or login, *(part.partition("=")[2] or part for part in given)}
    return {spelt for text in found for spelt in (text, unquote(text), unquote_plus(text), quote(text, safe=""))}
